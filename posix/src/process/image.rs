//! The program in memory: where it lies, what belongs to it, and which build it is.
//!
//! A target crosses to another process as the distance of its entry from the program's base. Both
//! sides run the same file, so the distance is the same, wherever the kernel put the program.

use std::os::raw::{c_int, c_void};
use std::sync::OnceLock;

/// One mapped segment of the program.
#[derive(Clone, Copy)]
struct Segment {
    start: usize,
    end: usize,
    executable: bool,
}

/// The main program, as the loader described it.
pub(crate) struct Image {
    base: usize,
    segments: Vec<Segment>,
    build: u64,
}

/// The main program of this process. The first call asks the loader, later ones cost a load.
pub(crate) fn image() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(Image::read)
}

impl Image {
    fn read() -> Image {
        let mut found = Found { image: Image { base: 0, segments: Vec::new(), build: 0 } };
        // SAFETY: `visit` has the signature that the call asks for, and `found` outlives the call.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
        if found.image.build == 0 {
            found.image.build = file_identity();
        }
        found.image
    }

    /// The distance of `address` from the program's base, if the program holds `size` bytes there.
    pub(crate) fn offset_of(&self, address: usize, size: usize) -> Option<u64> {
        self.holds(address, size, false).then(|| (address - self.base) as u64)
    }

    /// The address at this distance, if the program holds `size` bytes there.
    pub(crate) fn address_at(&self, offset: u64, size: usize) -> Option<usize> {
        let address = self.base.checked_add(usize::try_from(offset).ok()?)?;
        self.holds(address, size, false).then_some(address)
    }

    /// Whether `address` is code of this program.
    pub(crate) fn holds_code(&self, address: usize) -> bool {
        self.holds(address, 1, true)
    }

    /// A number that differs between builds: a hash of the linker's build id, or else of the
    /// file's device, inode, size and time.
    pub(super) fn build(&self) -> u64 {
        self.build
    }

    fn holds(&self, address: usize, size: usize, code: bool) -> bool {
        let Some(end) = address.checked_add(size) else { return false };
        self.segments.iter().any(|s| address >= s.start && end <= s.end && (s.executable || !code))
    }
}

struct Found {
    image: Image,
}

/// Takes in the first object, which is the main program, and stops.
unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: libc::size_t,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the loader hands a valid description, and `data` is the `Found` of `Image::read`.
    let (info, found) = unsafe { (&*info, &mut *data.cast::<Found>()) };
    let base = info.dlpi_addr as usize;
    found.image.base = base;
    for index in 0..usize::from(info.dlpi_phnum) {
        // SAFETY: the loader says that `dlpi_phnum` headers lie at `dlpi_phdr`.
        let header = unsafe { &*info.dlpi_phdr.add(index) };
        let start = base.wrapping_add(header.p_vaddr as usize);
        let size = header.p_memsz as usize;
        match header.p_type {
            libc::PT_LOAD if header.p_flags & libc::PF_R != 0 => {
                found.image.segments.push(Segment {
                    start,
                    end: start.saturating_add(size),
                    executable: header.p_flags & libc::PF_X != 0,
                })
            }
            libc::PT_NOTE => {
                // SAFETY: a note segment lies inside a loaded one, and is never written.
                let notes = unsafe { std::slice::from_raw_parts(start as *const u8, size) };
                if let Some(id) = build_id(notes) {
                    found.image.build = hash(id);
                }
            }
            _ => {}
        }
    }
    1
}

/// Finds the note `GNU`, type 3, in a note segment.
fn build_id(mut notes: &[u8]) -> Option<&[u8]> {
    const BUILD_ID: u32 = 3;
    while notes.len() >= 12 {
        let word = |at: usize| {
            u32::from_ne_bytes([notes[at], notes[at + 1], notes[at + 2], notes[at + 3]])
        };
        let (name, desc, kind) = (word(0) as usize, word(4) as usize, word(8));
        let at = 12 + name.next_multiple_of(4);
        let id = notes.get(at..at.checked_add(desc)?)?;
        if kind == BUILD_ID && notes.get(12..12 + name) == Some(b"GNU\0") {
            return Some(id);
        }
        notes = notes.get(at + desc.next_multiple_of(4)..)?;
    }
    None
}

/// The build as seen from outside, for linkers that leave no build id.
fn file_identity() -> u64 {
    match rustix::fs::stat("/proc/self/exe") {
        Ok(stat) => {
            let mut bytes = Vec::with_capacity(40);
            for number in [
                stat.st_dev,
                stat.st_ino,
                stat.st_size as u64,
                stat.st_mtime as u64,
                stat.st_mtime_nsec,
            ] {
                bytes.extend_from_slice(&number.to_ne_bytes());
            }
            hash(&bytes)
        }
        Err(_) => 1,
    }
}

/// FNV-1a; never 0.
fn hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    hash | 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_holds_its_own_functions() {
        let address = the_program_holds_its_own_functions as fn() as usize;
        assert!(image().holds_code(address));
        let offset = image().offset_of(address, 1).unwrap();
        assert_eq!(image().address_at(offset, 1), Some(address));
        let heap = Box::new(1u8);
        assert!(image().offset_of(&raw const *heap as usize, 1).is_none());
        assert!(image().address_at(u64::MAX, 1).is_none());
        assert_ne!(image().build(), 0);
    }

    #[test]
    fn damaged_notes_hold_no_build_id() {
        let mut note = Vec::new();
        for word in [4u32, 4, 3] {
            note.extend_from_slice(&word.to_ne_bytes());
        }
        note.extend_from_slice(b"GNU\0abcd");
        assert_eq!(build_id(&note), Some(&b"abcd"[..]));
        for cut in 0..note.len() {
            assert_eq!(build_id(&note[..cut]), None);
        }
        note[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(build_id(&note), None);
    }
}
