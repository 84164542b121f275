//! A file of raw bytes where a named segment could be, or a segment whose header was written over: every way to attach
//! it, use it, list it and sweep it away gives an error or what is promised, and the neighbours in its directory stay.
#![no_main]

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use procession_core::value::CType;
use procession_posix::memory::{SharedMemory, SharedMemoryError, SharedMemoryOptions};

#[derive(Arbitrary, Debug)]
struct Input {
    content: Content,
    /// So many bytes longer than its content, or shorter.
    longer: Option<i16>,
    strokes: Vec<Stroke>,
    /// Whether others may write the file, and this process so trusts it less.
    others: bool,
    /// Whether somebody attaches in each way at first.
    used: bool,
    acts: Vec<Act>,
}

#[derive(Arbitrary, Debug)]
enum Content {
    Raw(Vec<u8>),
    /// A segment of so many bytes, below this power of two.
    Segment {
        size: u64,
        power: u8,
        persistent: bool,
        bytes: Vec<u8>,
    },
}

/// Damage to the header: as many bytes of the value.
#[derive(Arbitrary, Debug)]
struct Stroke {
    at: u8,
    value: u64,
    bytes: u8,
}

/// Something to do with the name or with one of those who are attached.
#[derive(Arbitrary, Debug)]
enum Act {
    Attach,
    AttachReadOnly,
    Create {
        size: u32,
        persistent: bool,
    },
    CreateRandom {
        size: u16,
    },
    Remove,
    Any {
        name: String,
    },
    Read {
        who: u8,
        offset: u64,
        length: u16,
    },
    Write {
        who: u8,
        offset: u64,
        bytes: Vec<u8>,
    },
    Elements {
        who: u8,
        offset: u64,
        count: u64,
        kind: u8,
    },
    Send {
        who: u8,
        flips: Vec<(u8, u8)>,
    },
    Persist(u8),
    Unlink(u8),
    Copy(u8),
    Close(u8),
    Segments {
        users: u8,
    },
    Everywhere,
    Sweep,
    /// Damage while it is in use.
    Damage(Stroke),
    /// Only to a file that nobody trusts.
    Length(u32),
    Others(bool),
    /// Another thing gets the name.
    Replace {
        by: By,
    },
}

#[derive(Arbitrary, Debug)]
enum By {
    Nothing,
    Raw(Vec<u8>),
    Link,
    HardLink,
    Directory,
    Socket,
}

/// Behind this the bytes of the users begin.
const DATA_AT: u64 = 64 << 10;
/// More than the header has.
const HEADER: u64 = 96;
const NAME: &str = "the-one-that-is-damaged";
const USED: &str = "neighbour-in-use";
const STAYS: &str = "neighbour-made-to-stay";
const FOREIGN: &str = "neighbour-of-another-kind";
const TEXT: &[u8] = b"not to be lost";

/// What the first bytes of a good segment are, with its creator alive: of one to stay, and of one that is not.
static HEADERS: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    remove_directories_of_the_dead();
    let directory = Directory::new();
    [false, true].map(|persistent| {
        let made = directory.options().persistent(persistent).create(NAME, 1).expect("room");
        let header = bytes_of(&directory.path(made.name()), HEADER);
        directory.options().remove(NAME).expect("it is there");
        header
    })
});

/// A directory for one run.
struct Directory(PathBuf);

const DIRECTORIES: &str = "/dev/shm";
const PREFIX: &str = "procession-fuzz-";

/// What runs that found something have left.
fn remove_directories_of_the_dead() {
    for entry in fs::read_dir(DIRECTORIES).expect("a directory").flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Directory {
    fn new() -> Self {
        let path = Path::new(DIRECTORIES).join(format!("{PREFIX}{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("room");
        Self(path)
    }

    fn options(&self) -> SharedMemoryOptions {
        SharedMemoryOptions::new().directory(&self.0)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bytes_of(path: &Path, most: u64) -> Vec<u8> {
    let file = File::open(path).expect("it is there");
    let length = file.metadata().expect("its length").len().min(most);
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).expect("its bytes");
    bytes
}

/// Which file has the name, if any: a link counts as itself.
fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|found| found.ino())
}

/// The number that the next descriptor gets.
fn next_descriptor() -> i32 {
    File::open("/dev/null").expect("a descriptor").as_raw_fd()
}

fn fail(error: &SharedMemoryError) {
    assert!(!error.to_string().is_empty());
}

fuzz_target!(|input: Input| {
    LazyLock::force(&HEADERS);
    let before = next_descriptor();
    let mut run = Run::new();
    run.write(&input);
    run.check();
    let first: &[Act] = if input.used { &[Act::Attach, Act::AttachReadOnly] } else { &[] };
    for act in first.iter().chain(&input.acts).take(60) {
        run.act(act);
        run.check();
    }
    drop(run);
    assert_eq!(next_descriptor(), before, "a descriptor was left open");
});

/// Somebody who has a segment.
struct User {
    memory: SharedMemory,
    inode: u64,
    /// Cutting its file may end the process.
    trusts: bool,
    creator: bool,
}

struct Run {
    users: Vec<User>,
    used: SharedMemory,
    inodes: [Option<u64>; 3],
    path: PathBuf,
    directory: Directory,
}

impl Run {
    fn new() -> Self {
        let directory = Directory::new();
        let used = directory.options().create(USED, 20).expect("room");
        used.write_at(3, TEXT).expect("it fits");
        let stays = directory.options().persistent(true).create(STAYS, 20).expect("room");
        stays.write_at(3, TEXT).expect("it fits");
        drop(stays);
        fs::write(directory.path(FOREIGN), TEXT).expect("room");
        let inodes = [USED, STAYS, FOREIGN].map(|name| inode(&directory.path(name)));
        Self { users: vec![], used, inodes, path: directory.path(NAME), directory }
    }

    /// The file at first.
    fn write(&self, input: &Input) {
        let file = File::create_new(&self.path).expect("a new file");
        let length = match &input.content {
            Content::Raw(bytes) => {
                file.write_all_at(bytes, 0).expect("room");
                bytes.len() as u64
            }
            Content::Segment { size, power, persistent, bytes } => {
                // With holes: no machine has so much. Half of them are small.
                let power = if power % 2 == 0 { power / 2 % 8 } else { power / 2 % 46 };
                let size = size % (2 << power) + 1;
                let mut header = HEADERS[usize::from(*persistent)].clone();
                header[16..24].copy_from_slice(&size.to_ne_bytes());
                file.write_all_at(&header, 0).expect("room");
                let bytes = &bytes[..bytes.len().min(size as usize)];
                file.write_all_at(bytes, DATA_AT).expect("room");
                DATA_AT + size
            }
        };
        input.strokes.iter().for_each(|stroke| stroke.apply(&file));
        let length = length.saturating_add_signed(input.longer.map_or(0, i64::from));
        file.set_len(length).expect("a possible length");
        self.let_others(input.others);
    }

    fn let_others(&self, write: bool) {
        let mode = if write { 0o666 } else { 0o600 };
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_file()) {
            fs::set_permissions(&self.path, Permissions::from_mode(mode)).expect("own file");
        }
    }

    /// What nobody may lose.
    fn check(&self) {
        let inodes = [USED, STAYS, FOREIGN].map(|name| inode(&self.directory.path(name)));
        assert_eq!(inodes, self.inodes, "a neighbour is gone");
        let mut text = [0; TEXT.len()];
        self.used.read_at(3, &mut text).expect("the neighbour's bytes");
        assert_eq!(text, TEXT);
    }

    /// The length of the file if it has the name, and whether it can be an orphan: it says so, and nobody has it.
    fn named(&self) -> Option<(u64, u64, bool)> {
        let found = fs::symlink_metadata(&self.path).ok()?;
        let plain = found.is_file();
        let orphan = plain && {
            let now = bytes_of(&self.path, HEADER);
            let good = &HEADERS[0];
            let stays = now.get(12).is_none_or(|flags| flags & 1 != 0);
            let used = self.users.iter().any(|user| user.inode == found.ino());
            // Its magic number and version.
            now.len() >= 80 && now[..12] == good[..12] && !stays && !used
        };
        Some((found.ino(), found.len(), orphan))
    }

    fn user(&self, who: u8) -> Option<&User> {
        self.users.get(usize::from(who) % self.users.len().max(1))
    }

    fn add(&mut self, memory: SharedMemory) {
        let found = fs::metadata(self.directory.path(memory.name())).expect("it has its name");
        // Of a segment just attached to: it was whole.
        assert_eq!(found.len(), memory.size() as u64 + DATA_AT);
        assert!(memory.size() > 0);
        let trusts = found.mode() & 0o022 == 0;
        let creator = memory.is_creator();
        if self.users.len() < 6 {
            self.users.push(User { memory, inode: found.ino(), trusts, creator });
        }
    }

    fn act(&mut self, act: &Act) {
        let options = self.directory.options();
        let named = self.named();
        match act {
            Act::Attach | Act::AttachReadOnly => {
                let attached = match act {
                    Act::Attach => options.attach(NAME),
                    _ => options.attach_read_only(NAME),
                };
                match attached {
                    Ok(memory) => self.add(memory),
                    Err(error) => fail(&error),
                }
                assert_eq!(inode(&self.path), named.map(|named| named.0), "attaching changed it");
            }
            Act::Create { size, persistent } => {
                let size = u64::from(size % (1 << 18));
                let exists = named.is_some_and(|(.., orphan)| !orphan);
                match options.persistent(*persistent).create(NAME, size) {
                    Ok(memory) => {
                        assert!(!exists && memory.is_creator() && memory.size() as u64 == size);
                        self.add(memory);
                    }
                    Err(error) => {
                        assert!(exists || size == 0, "{error}");
                        fail(&error);
                        assert_eq!(inode(&self.path), named.map(|named| named.0));
                    }
                }
            }
            Act::CreateRandom { size } => match options.create_random(u64::from(*size)) {
                Ok(memory) => self.add(memory),
                Err(error) => assert!(*size == 0, "{error}"),
            },
            Act::Remove => match options.remove(NAME) {
                Ok(()) => assert_eq!(inode(&self.path), None),
                Err(error) => {
                    fail(&error);
                    assert_eq!(inode(&self.path), named.map(|named| named.0));
                }
            },
            Act::Any { name } => {
                if name.starts_with("neighbour") || name == NAME {
                    return;
                }
                let good = options.create(name, 10);
                assert_eq!(
                    good.is_ok(),
                    !(name.is_empty() || name.contains(['/', '\0']))
                        && name != "."
                        && name != ".."
                        && name.len() < 256
                        && !self.users.iter().any(|user| user.memory.name() == name)
                );
                let other = options.attach(name);
                assert!(other.is_ok() || good.is_err());
                if let Err(error) = good {
                    fail(&error);
                }
            }
            Act::Read { who, offset, length } => {
                if let Some(user) = self.user(*who) {
                    user.read(*offset, *length);
                }
            }
            Act::Write { who, offset, bytes } => {
                if let Some(user) = self.user(*who) {
                    self.unless_cut(user, |user| user.write(*offset, bytes));
                }
            }
            Act::Elements { who, offset, count, kind } => {
                if let Some(user) = self.user(*who) {
                    let (offset, count) = (user.within(*offset), *count as usize);
                    match kind % 6 {
                        0 => user.elements::<u8>(offset, count),
                        1 => user.elements::<i16>(offset, count),
                        2 => user.elements::<u32>(offset, count),
                        3 => user.elements::<i64>(offset, count),
                        4 => user.elements::<f64>(offset, count),
                        _ => user.elements::<char>(offset, count),
                    }
                }
            }
            Act::Send { who, flips } => {
                if let Some(user) = self.user(*who)
                    && let Ok(mut bytes) = postcard::to_stdvec(&user.memory)
                {
                    // The directory stays: the bytes shall not find files elsewhere.
                    let from = 1 + self.directory.0.as_os_str().len();
                    for (at, with) in flips {
                        if let Some(byte) = bytes.get_mut(from + usize::from(*at)) {
                            *byte ^= with;
                        }
                    }
                    if let Ok(memory) = postcard::from_bytes::<SharedMemory>(&bytes) {
                        assert!(!memory.is_creator());
                        let mut text = [0];
                        let _ = memory.read_at(0, &mut text);
                    }
                }
            }
            Act::Persist(who) => {
                if let Some(user) = self.user(*who) {
                    let done = user.memory.persist();
                    assert!(done.is_err() || !user.memory.is_read_only());
                }
            }
            Act::Unlink(who) => {
                if let Some(user) = self.user(*who) {
                    let path = self.directory.path(user.memory.name());
                    let before = inode(&path);
                    match user.memory.unlink() {
                        Ok(()) => assert!(before == Some(user.inode) && inode(&path).is_none()),
                        Err(error) => {
                            fail(&error);
                            assert_eq!(inode(&path), before);
                        }
                    }
                }
            }
            Act::Copy(who) => {
                if let Some(User { memory, inode, trusts, creator }) = self.user(*who)
                    && self.users.len() < 6
                {
                    let (memory, inode, trusts, creator) =
                        (memory.clone(), *inode, *trusts, *creator);
                    self.users.push(User { memory, inode, trusts, creator });
                }
            }
            Act::Close(who) => {
                if !self.users.is_empty() {
                    let user = self.users.remove(usize::from(*who) % self.users.len());
                    let path = self.directory.path(user.memory.name());
                    let before = inode(&path);
                    if let Err(error) = user.memory.close() {
                        fail(&error);
                    }
                    let after = inode(&path);
                    let may_end = user.creator && before == Some(user.inode);
                    assert!(before == after || may_end && after.is_none());
                }
            }
            Act::Segments { users } => {
                let all = options.segments().expect("a directory");
                // It may have a second name, by which it is used.
                let linked = self.users.iter().any(|user| Some(user.inode) == self.inodes[1]);
                for (known, used) in [(USED, true), (STAYS, linked)] {
                    let one = all.iter().find(|one| one.name == known).expect("a neighbour");
                    assert!(one.size == 20 && one.in_use == used && !one.is_orphan());
                }
                for one in &all {
                    assert!(one.name != FOREIGN && !format!("{one:?}").is_empty());
                    // It looks at every process.
                    if *users == 77 {
                        assert!(one.users().len() < 1 << 22);
                    }
                    if one.name == NAME {
                        let orphan = named.is_some_and(|(.., orphan)| orphan);
                        assert_eq!(one.is_orphan(), orphan);
                    }
                }
            }
            Act::Everywhere => drop(SharedMemory::segments().expect("a directory")),
            Act::Sweep => {
                let swept = options.sweep().expect("a directory");
                assert!(swept.iter().all(|one| one.is_orphan()));
                let orphan = named.is_some_and(|(.., orphan)| orphan);
                assert_eq!(swept.iter().any(|one| one.name == NAME), orphan);
                let expected = named.map(|named| named.0).filter(|_| !orphan);
                assert_eq!(inode(&self.path), expected);
                assert!(swept.iter().all(|one| !self.directory.path(&one.name).exists()));
            }
            Act::Damage(stroke) => {
                if let Some(file) = self.open() {
                    stroke.apply(&file);
                }
            }
            Act::Length(length) => {
                let trusted =
                    |inode| self.users.iter().any(|user| user.trusts && user.inode == inode);
                if let Some((inode, ..)) = named
                    && !trusted(inode)
                    && let Some(file) = self.open()
                {
                    file.set_len(u64::from(length % (1 << 18))).expect("a possible length");
                }
            }
            Act::Others(write) => self.let_others(*write),
            Act::Replace { by } => self.replace(by),
        }
    }

    /// What has the name, if it is a file, and of this directory alone.
    fn open(&self) -> Option<File> {
        let found = fs::symlink_metadata(&self.path).ok()?;
        let own = found.is_file() && found.nlink() == 1;
        own.then(|| OpenOptions::new().write(true).open(&self.path).expect("own file"))
    }

    fn replace(&self, by: &By) {
        // An empty directory is not removed as a file is.
        let _ = fs::remove_file(&self.path).or_else(|_| fs::remove_dir(&self.path));
        let path = |name| self.directory.path(name);
        match by {
            By::Nothing => {}
            By::Raw(bytes) => fs::write(&self.path, bytes).expect("room"),
            By::Link => symlink(path(STAYS), &self.path).expect("room"),
            By::HardLink => fs::hard_link(path(STAYS), &self.path).expect("room"),
            By::Directory => fs::create_dir(&self.path).expect("room"),
            By::Socket => drop(UnixListener::bind(&self.path).expect("room")),
        }
    }

    /// A write leaves the length of the file and its header as they are.
    fn unless_cut(&self, user: &User, write: impl FnOnce(&User)) {
        let named = self.named().filter(|named| named.0 == user.inode);
        let header = named.map(|_| bytes_of(&self.path, HEADER));
        write(user);
        if let Some((inode, length, _)) = named {
            let now = self.named().map(|named| (named.0, named.1));
            assert_eq!(now, Some((inode, length)), "a write changed the length");
            assert_eq!(header, Some(bytes_of(&self.path, HEADER)), "a write changed the header");
        }
    }
}

impl Stroke {
    fn apply(&self, file: &File) {
        let at = u64::from(self.at) % HEADER;
        let bytes = &self.value.to_ne_bytes()[..1 + usize::from(self.bytes) % 8];
        file.write_all_at(bytes, at).expect("room");
    }
}

impl User {
    /// Most offsets lie within, or close behind.
    fn within(&self, offset: u64) -> usize {
        let size = self.memory.size();
        let rest = (offset / 4) as usize;
        match offset % 4 {
            0 | 1 => rest % (size + 9),
            2 => (size + 9).saturating_sub(rest % 30),
            _ => rest,
        }
    }

    fn fits(&self, offset: usize, length: usize) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.memory.size())
    }

    fn read(&self, offset: u64, length: u16) {
        let offset = self.within(offset);
        let mut bytes = vec![0xA5; usize::from(length % 5000)];
        match self.memory.read_at(offset, &mut bytes) {
            Ok(()) => assert!(self.fits(offset, bytes.len())),
            Err(SharedMemoryError::Bounds { .. }) => assert!(!self.fits(offset, bytes.len())),
            Err(SharedMemoryError::Cut { .. }) => assert!(!self.trusts),
            Err(error) => panic!("{error}"),
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let offset = self.within(offset);
        match self.memory.write_at(offset, bytes) {
            Ok(()) => {
                assert!(self.fits(offset, bytes.len()) && !self.memory.is_read_only());
                let mut back = vec![0xA5; bytes.len()];
                self.memory.read_at(offset, &mut back).expect("what was written");
                assert_eq!(back, bytes);
            }
            Err(SharedMemoryError::Bounds { .. }) => assert!(!self.fits(offset, bytes.len())),
            Err(SharedMemoryError::ReadOnly { .. }) => assert!(self.memory.is_read_only()),
            Err(SharedMemoryError::Cut { .. }) => assert!(!self.trusts),
            Err(error) => panic!("{error}"),
        }
    }

    fn elements<T: CType>(&self, offset: usize, count: usize) {
        match self.memory.elements::<T>(offset, count) {
            Ok(elements) => {
                assert!(self.fits(offset, count * size_of::<T>()) && elements.len() == count);
                for index in [0, count / 2, count.wrapping_sub(1), count, usize::MAX] {
                    match elements.get(index) {
                        Ok(value) => elements.set(index, value).expect("it is there"),
                        Err(_) => assert!(index >= count),
                    }
                }
            }
            Err(error) => fail(&error),
        }
    }
}
