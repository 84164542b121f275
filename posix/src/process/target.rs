//! What a process can run: functions, and closures that capture nothing.
//!
//! A target has no data, so its type says all about it. For each type the compiler makes one
//! `Entry`, a constant in the program: {magic, call, name}. What crosses to the other process is the
//! distance of that constant from the program's base. The receiver believes nothing: the
//! address must be aligned, lie inside the program, carry the magic and the name of the type, and
//! its functions must be code of the program. Only then it calls.
//!
//! Another build has its constants elsewhere. There a target is found by its name, among those that were exported: a
//! function in the program's `.init_array` puts each of them into a list before `main`, since no linker throws that
//! section away. The types of arguments and result have to have the same names too, for bytes do not tell theirs.

use std::any::type_name;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::StartError;
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

    /// # Safety
    /// There has been a value of this type.
    #[doc(hidden)]
    unsafe fn call(args: Args) -> Self::Output;

    #[doc(hidden)]
    fn encode(args: &Args) -> Result<Vec<u8>, String>;

    /// # Safety
    /// As of `call`.
    #[doc(hidden)]
    unsafe fn call_encoded(args: &[u8]) -> Result<Vec<u8>, CallError>;
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
#[derive(Debug)]
#[repr(C)]
pub struct Entry {
    magic: u64,
    call: unsafe fn(&[u8]) -> Result<Vec<u8>, CallError>,
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
        // SAFETY: entries are taken from values, by `Process::new` or an export.
        unsafe { (self.call)(args) }
    }
}

const _: () = assert!(size_of::<Entry>() == 24, "three words are read as one");

/// A value of a type that has no data.
///
/// # Safety
/// There has been a value of it: a type without values, or one whose values prove something, is of no data too.
unsafe fn the_only_value_of<F: Copy>() -> F {
    const { assert!(size_of::<F>() == 0) };
    // SAFETY: F has no bytes and is Copy, so a value is nothing to read, and there has been one.
    unsafe { std::ptr::NonNull::<F>::dangling().read() }
}

/// What a starter wants to run.
pub(super) struct Wanted<'a> {
    /// The name of the target's type.
    pub(super) name: &'a str,
    pub(super) args: &'static str,
    pub(super) output: &'static str,
    /// None: whatever has this name.
    pub(super) entry: Option<&'static Entry>,
}

impl Wanted<'_> {
    /// What a process of the same build, or of another one, is told.
    pub(super) fn aim(&self, same_build: bool) -> Result<Aim, StartError> {
        let name = self.name.to_owned();
        match self.entry {
            Some(entry) if same_build => match entry.offset() {
                Some(offset) => Ok(Aim::Entry { build: image().build(), offset, name }),
                None => Err(StartError::ForeignTarget { target: name }),
            },
            _ => Ok(Aim::Name { name, args: self.args.into(), output: self.output.into() }),
        }
    }
}

/// The target of a process, as it is told to it.
#[derive(serde::Serialize, serde::Deserialize, Debug)]
pub(super) enum Aim {
    /// Its entry in this build, and the name of its type.
    Entry { build: u64, offset: u64, name: String },
    /// The names of the types of an exported target, its arguments, and its result.
    Name { name: String, args: String, output: String },
}

impl Aim {
    /// The entry that is meant.
    pub(super) fn find(&self) -> Result<&'static Entry, String> {
        match self {
            Aim::Entry { build, .. } if *build != image().build() => {
                Err("the program was executed from another build".into())
            }
            Aim::Entry { offset, name, .. } => Entry::find(*offset, name)
                .ok_or_else(|| format!("{name} is not a target of this program")),
            Aim::Name { name, args, output } => Export::find(name, args, output),
        }
    }
}

/// A target that other builds may name. Made by [`export_target!`](crate::export_target).
#[doc(hidden)]
#[derive(Debug)]
pub struct Export {
    entry: &'static Entry,
    args: fn() -> &'static str,
    output: fn() -> &'static str,
    next: AtomicPtr<Export>,
}

/// The newest in the list of exports.
static EXPORTS: AtomicPtr<Export> = AtomicPtr::new(null_mut());

impl Export {
    /// The export of a target.
    pub const fn of<F: Target<Args>, Args>(_: &F) -> Export {
        Export {
            entry: F::ENTRY,
            args: type_name::<Args>,
            output: type_name::<F::Output>,
            next: AtomicPtr::new(null_mut()),
        }
    }

    /// Puts it into the list. To be called once.
    pub fn register(&'static self) {
        let mut first = EXPORTS.load(Ordering::Relaxed);
        loop {
            self.next.store(first, Ordering::Relaxed);
            let me = (&raw const *self).cast_mut();
            // Release: who finds this one also finds what is behind it.
            match EXPORTS.compare_exchange(first, me, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => first = other,
            }
        }
    }

    fn find(name: &str, args: &str, output: &str) -> Result<&'static Entry, String> {
        // Acquire: meets the release of who put it there.
        let mut at = EXPORTS.load(Ordering::Acquire);
        let mut other = None;
        // SAFETY: whatever is in the list is a constant of the program.
        while let Some(export) = unsafe { at.as_ref() } {
            if export.entry.type_name() == name {
                if ((export.args)(), (export.output)()) == (args, output) {
                    return Ok(export.entry);
                }
                other = Some(export);
            }
            at = export.next.load(Ordering::Acquire);
        }
        Err(match other {
            Some(export) => {
                let (takes, returns) = ((export.args)(), (export.output)());
                format!("{name} takes {takes} and returns {returns} here, not {args} and {output}")
            }
            None => format!("this program exports no target {name}, see `export_target!`"),
        })
    }
}

/// Lets other builds start a function of this program by its name.
///
/// A program that is named by [`set_executable`](crate::process::set_executable) and is not the starter's own build runs
/// only what it exports. The function's name is that of its type, `crate::module::function`; the types of its
/// arguments and its result must have the same names on both sides, so they are best those of a crate that both use.
/// A process type of one's own is exported as `<Type as Run>::run`.
///
/// ```
/// use procession_posix::process::Process;
///
/// mod work {
///     pub fn add(a: u32, b: u32) -> u32 {
///         a + b
///     }
/// }
/// procession_posix::export_target!(work::add);
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let name = std::any::type_name_of_val(&work::add);
/// // "program::work::add", in a crate `program`
/// let child = Process::named::<u32, _>(name, (2u32, 3u32)).start()?;
/// assert_eq!(child.join()?, 5);
/// # Ok(())
/// # }
/// ```
#[macro_export]
macro_rules! export_target {
    // Closures have no names of their own: nothing but paths.
    (<$type:ty as $trait:path>::$name:ident) => {
        $crate::export_target!(@ <$type as $trait>::$name);
    };
    ($target:path) => {
        $crate::export_target!(@ $target);
    };
    (@ $target:expr) => {
        const _: () = {
            static EXPORT: $crate::process::Export = $crate::process::Export::of(&$target);
            extern "C" fn register() {
                EXPORT.register();
            }
            // SAFETY: the loader calls what stands in this section once, before main.
            #[used]
            #[unsafe(link_section = ".init_array")]
            static REGISTER: extern "C" fn() = register;
        };
    };
}

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

            unsafe fn call(($($value,)*): ($($arg,)*)) -> R {
                // SAFETY: the caller says so.
                let target = unsafe { the_only_value_of::<F>() };
                target($($value),*)
            }

            fn encode(args: &($($arg,)*)) -> Result<Vec<u8>, String> {
                postcard::to_stdvec(args).map_err(|error| error.to_string())
            }

            unsafe fn call_encoded(args: &[u8]) -> Result<Vec<u8>, CallError> {
                let args: ($($arg,)*) = crate::memory::decode(args)
                    .map_err(|error| CallError::Arguments(error.to_string()))?;
                // SAFETY: the caller says so.
                let result = unsafe { <F as Target<($($arg,)*)>>::call(args) };
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

    crate::export_target!(add);

    #[test]
    fn an_export_is_found_by_all_its_names() {
        let (name, args, output) = (entry(add).type_name(), "(u32, u32)", "u32");
        let found = Export::find(name, args, output).unwrap();
        let encoded = postcard::to_stdvec(&(2u32, 3u32)).unwrap();
        assert_eq!(postcard::from_bytes::<u32>(&found.call(&encoded).unwrap()), Ok(5));
        assert!(Export::find(name, "(u32,)", output).unwrap_err().contains("takes (u32, u32)"));
        assert!(Export::find("add", args, output).unwrap_err().contains("export_target"));
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
