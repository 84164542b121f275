//! A piece of memory that processes share.
//!
//! A [`Region`] is a view of memory that somebody else has mapped: it knows the header, the table of those who take
//! part, and the blocks. It checks whatever it reads. Addresses inside are offsets from its start; nothing in it
//! is a pointer.
//!
//! A process takes part through a [`Membership`]; its [`Member`] goes into every call that claims something.

#[cfg(not(loom))]
mod block;
#[cfg(not(loom))]
mod header;
mod member;
mod participants;
#[cfg(not(loom))]
mod place;
mod tag;
#[cfg(all(test, not(loom)))]
pub(crate) mod testing;
#[cfg(not(loom))]
mod view;
#[cfg(all(feature = "std", not(loom)))]
mod wiped;

#[cfg(not(loom))]
pub use block::{
    AllocError, Block, CLASS_SIZES, CLASSES, HandleError, Kind, Object, QUEUE_ALIGN, Room, Swept,
    Usage,
};
#[cfg(not(loom))]
pub use header::{CHUNK, LARGEST, VERSION};
#[cfg(not(loom))]
pub use member::Sleeper;
pub use member::{Member, Membership, Setting, Sweep, Who};
pub use participants::{JoinError, MOST_ROWS, Participant, Participants, Verdict};
#[cfg(not(loom))]
pub use place::{ALIGN, Place, PlaceError};
pub use tag::{Short, Tag};

#[cfg(not(loom))]
pub use view::{Fixed, Memory, MemoryFull, Options, Region, RegionError, Shareable};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::testing::Bytes;
    use super::*;
    use crate::sys::atomic::AtomicU32;

    #[test]
    fn what_was_created_can_be_attached_to() {
        let bytes = Bytes::new(1 << 20);
        let made = bytes.create().unwrap();
        let seen = bytes.attach(1 << 20).unwrap();
        assert_eq!((made.id(), made.size()), (7, 1 << 20));
        assert_eq!(made.geometry, seen.geometry);
        let seat = seen.join().unwrap();
        assert_eq!(made.participants().attached(), 1);
        assert!(seat.member().tag().is_ok());
    }

    #[test]
    fn each_kind_of_wrong_memory_has_its_error() {
        let bytes = Bytes::new(1 << 20);
        assert!(matches!(bytes.attach(1 << 20), Err(RegionError::Foreign { magic: 0 })));
        assert!(matches!(bytes.attach(8), Err(RegionError::TooSmall { .. })));
        bytes.create().unwrap();
        assert!(matches!(bytes.attach(1 << 19), Err(RegionError::Cut { .. })));
        for (offset, value, expected) in [
            (8, 0, "format 0"),
            (8, 1, "format 1"),
            (12, 1, "another kind of build"),
            (32, 0, "rows is 0"),
            (32, 5000, "rows is 5000"),
            (36, 9, "fences is 9"),
            (40, 9, "scope is 9"),
            (44, 0, "never finished"),
            (0, 0, "no region"),
        ] {
            let bytes = Bytes::new(1 << 20);
            bytes.create().unwrap();
            bytes.word(offset).store(value, crate::sys::atomic::Ordering::Relaxed);
            let error = bytes.attach(1 << 20).unwrap_err();
            assert!(std::string::ToString::to_string(&error).contains(expected), "{error}");
        }
    }

    #[test]
    fn offsets_are_checked() {
        let bytes = Bytes::new(1 << 20);
        let region = bytes.create().unwrap();
        for offset in [0, 8, 4096, 1 << 20, u64::MAX, u64::MAX - 3, (1 << 20) - 2] {
            assert!(region.object::<AtomicU32>(offset).is_err(), "{offset}");
        }
        assert!(region.object::<AtomicU32>((1 << 20) - 4).is_ok());
        assert!(region.objects::<AtomicU32>(1 << 19, u64::MAX).is_err());
    }

    #[test]
    fn too_little_memory_is_an_error() {
        let bytes = Bytes::new(64 * 1024);
        assert!(matches!(bytes.create(), Err(RegionError::TooSmall { .. })));
    }
}
