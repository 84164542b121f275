//! What a process can run: functions, and closures that capture nothing.
//!
//! A target has no data, so its type says all about it. For each type the compiler makes one
//! `Entry`, a constant in the program: {magic, call, name}. What crosses to the other process is the
//! distance of that constant from the program's base. The receiver believes nothing: the
//! address must be aligned, lie inside the program, carry the magic and the name of the type, and
//! its functions must be code of the program. Only then it calls.

use std::any::type_name;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::image::image;
use super::returned::is_err;

/// A function, or a closure that captures nothing, that can be the body of a process.
///
/// Implemented for everything that is `Fn(A, ..) -> R`, takes up to eight arguments, and has no
/// data of its own: functions by their name, and closures without captured variables. The
/// arguments and the result cross by serde, so they own what they hold (`String`, not `&str`).
/// Handles of procession are serde values and may be among them.
///
/// A function pointer (`let f: fn(u32) -> u32 = ...`) and a capturing closure are data, which
/// another process does not have: they are refused when the program is built.
///
/// ```compile_fail
/// let x = 5;
/// // Refused: the closure captures `x`. Pass it as an argument instead.
/// procession_posix::process::Process::new(move || x + 1, ()).start();
/// ```
pub trait Target<Args>: Copy + Send + Sync + 'static {
    /// What the target returns, and what [`Child::join`](super::Child::join) hands out.
    type Output: Serialize + DeserializeOwned;

    #[doc(hidden)]
    const ENTRY: &'static Entry;

    #[doc(hidden)]
    fn encode(args: &Args) -> Result<Vec<u8>, String>;

    #[doc(hidden)]
    fn call_encoded(args: &[u8]) -> Result<Vec<u8>, CallError>;
}

/// Why a call between processes did not complete.
#[doc(hidden)]
#[derive(Debug)]
pub enum CallError {
    /// The arguments do not decode; the target was not called.
    Arguments(String),
    /// The target returned, but its result does not encode.
    Result(String),
    /// The target returned `Err`: the encoded result.
    Failed(Vec<u8>),
}

/// The constant that stands for one target in the program.
#[doc(hidden)]
#[repr(C)]
pub struct Entry {
    magic: u64,
    call: fn(&[u8]) -> Result<Vec<u8>, CallError>,
    type_name: fn() -> &'static str,
}

const MAGIC: u64 = u64::from_le_bytes(*b"target\x01\xf7");

impl Entry {
    /// The name of the target's type, for messages and as a check.
    pub(crate) fn type_name(&self) -> &'static str {
        (self.type_name)()
    }

    /// The distance from the program's base; `None` if the entry is not part of the program.
    pub(crate) fn offset(&'static self) -> Option<u64> {
        image().offset_of(&raw const *self as usize, size_of::<Entry>())
    }

    /// The entry at `offset`, if there is one, of the type with this name.
    pub(crate) fn find(offset: u64, type_name: &str) -> Option<&'static Entry> {
        let address = image().address_at(offset, size_of::<Entry>())?;
        if address % align_of::<Entry>() != 0 {
            return None;
        }
        // SAFETY: the three words lie inside the loaded program and are aligned; read as plain
        // numbers, any content is valid.
        let [magic, call, name] = unsafe { (address as *const [u64; 3]).read() };
        if magic != MAGIC {
            return None;
        }
        if !image().holds_code(call as usize) || !image().holds_code(name as usize) {
            return None;
        }
        // SAFETY: the magic number says that the compiler put an `Entry` here, and both functions
        // are code of this program. It is a constant, so the reference may live for ever.
        let entry = unsafe { &*(address as *const Entry) };
        (entry.magic == MAGIC && entry.type_name() == type_name).then_some(entry)
    }

    /// Decodes the arguments, calls the target, encodes its result.
    pub(crate) fn call(&self, args: &[u8]) -> Result<Vec<u8>, CallError> {
        (self.call)(args)
    }
}

const _: () = assert!(size_of::<Entry>() == 24, "three words are read as one");

macro_rules! target {
    ($($arg:ident $value:ident),*) => {
        impl<F, R, $($arg),*> Target<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> R + Copy + Send + Sync + 'static,
            R: Serialize + DeserializeOwned,
            $($arg: Serialize + DeserializeOwned,)*
        {
            type Output = R;

            const ENTRY: &'static Entry = {
                assert!(
                    size_of::<F>() == 0,
                    "a target must be a function or a closure that captures nothing: \
                     another process has no captured variables and no function pointers of this \
                     one; pass them as arguments"
                );
                &Entry {
                    magic: MAGIC,
                    call: <F as Target<($($arg,)*)>>::call_encoded,
                    type_name: type_name::<F>,
                }
            };

            fn encode(args: &($($arg,)*)) -> Result<Vec<u8>, String> {
                postcard::to_stdvec(args).map_err(|error| error.to_string())
            }

            fn call_encoded(args: &[u8]) -> Result<Vec<u8>, CallError> {
                const { assert!(size_of::<F>() == 0) };
                // SAFETY: F has no bytes and is Copy, so a value is nothing to read. There is a
                // value of it: this function is named by `ENTRY` only, which a starter takes
                // from a value that it holds.
                let target: F = unsafe { std::ptr::NonNull::<F>::dangling().read() };
                let ($($value,)*): ($($arg,)*) = crate::memory::decode(args)
                    .map_err(|error| CallError::Arguments(error.to_string()))?;
                let result = target($($value),*);
                let encoded = postcard::to_stdvec(&result)
                    .map_err(|error| CallError::Result(error.to_string()))?;
                let failed = is_err::<R>(&encoded);
                if failed { Err(CallError::Failed(encoded)) } else { Ok(encoded) }
            }
        }
    };
}

target!();
target!(A a);
target!(A a, B b);
target!(A a, B b, C c);
target!(A a, B b, C c, D d);
target!(A a, B b, C c, D d, E e);
target!(A a, B b, C c, D d, E e, G g);
target!(A a, B b, C c, D d, E e, G g, H h);
target!(A a, B b, C c, D d, E e, G g, H h, I i);

#[cfg(test)]
mod tests {
    use super::*;

    fn add(a: u32, b: u32) -> u32 {
        a + b
    }

    fn entry<F: Target<Args>, Args>(_: F) -> &'static Entry {
        F::ENTRY
    }

    #[test]
    fn an_entry_is_found_by_its_offset_and_name_only() {
        let add = entry(add);
        let offset = add.offset().unwrap();
        let found = Entry::find(offset, add.type_name()).unwrap();
        let args = postcard::to_stdvec(&(2u32, 3u32)).unwrap();
        let sum: u32 = postcard::from_bytes(&found.call(&args).unwrap()).unwrap();
        assert_eq!(sum, 5);
        assert!(Entry::find(offset, "something else").is_none());
        assert!(Entry::find(offset + 1, add.type_name()).is_none());
        assert!(Entry::find(offset + 8, add.type_name()).is_none());
        assert!(Entry::find(u64::MAX - 3, add.type_name()).is_none());
        assert!(Entry::find(1 << 40, add.type_name()).is_none());
    }

    #[test]
    fn closures_have_entries_of_their_own() {
        let (double, triple) = (entry(|x: u64| x * 2), entry(|x: u64| x * 3));
        assert_ne!(double.offset(), triple.offset());
        let args = postcard::to_stdvec(&(7u64,)).unwrap();
        let found = Entry::find(triple.offset().unwrap(), triple.type_name()).unwrap();
        assert_eq!(postcard::from_bytes::<u64>(&found.call(&args).unwrap()), Ok(21));
        assert!(matches!(found.call(&[]), Err(CallError::Arguments(_))));
    }
}
