//! Which files are counted, and in which pieces.
//!
//! All regular files below the paths, whatever their names. Links are followed where they are named as a path, not where they
//! are met: otherwise files would be counted twice, and a directory might lie in itself. What is not a regular file
//! is never opened for reading: nobody waits for the other end of a fifo.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::words::is_cut;

/// A file with a NUL byte among its first bytes, so many, is binary.
const HEAD: usize = 8 << 10;
/// What opening a file costs, in bytes that could be counted instead.
const OPENING: u64 = 4 << 10;

/// A file or directory that is not counted, and why.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeftOut {
    pub path: OsString,
    pub why: String,
}

/// A stretch of a file. Both ends are moved to behind the next white space, or to the end of the file, when it is read: then
/// no word is cut, and neighbours agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub path: OsString,
    pub start: u64,
    /// `None` in the last part of a file: to its end, wherever that is by then.
    pub end: Option<u64>,
}

/// What was found below the paths.
#[derive(Default)]
pub struct Found {
    /// The files and their sizes, in the order of the paths, and below them by name.
    pub files: Vec<(PathBuf, u64)>,
    pub left_out: Vec<LeftOut>,
}

impl Found {
    /// All files below `paths`, except what lies below directories that `skip` is true for.
    pub fn below(paths: &[PathBuf], skip: impl Fn(&Path) -> bool) -> Self {
        let mut found = Self::default();
        // The last is the next, so names go in backwards.
        let mut ahead: Vec<(PathBuf, bool)> =
            paths.iter().rev().map(|path| (path.clone(), true)).collect();
        while let Some((path, named)) = ahead.pop() {
            let look = if named { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
            match look {
                Ok(about) if about.is_dir() && !named && skip(&path) => {}
                Ok(about) if about.is_dir() => match names_in(&path) {
                    Ok(names) => ahead.extend(names.into_iter().rev().map(|name| (name, false))),
                    Err(error) => found.leave_out(path, error),
                },
                Ok(about) if about.is_file() => found.files.push((path, about.len())),
                Ok(about) if about.is_symlink() => found.leave_out(path, "a symbolic link"),
                Ok(_) => found.leave_out(path, "not a regular file"),
                Err(error) => found.leave_out(path, error),
            }
        }
        found
    }

    fn leave_out(&mut self, path: PathBuf, why: impl ToString) {
        self.left_out.push(LeftOut { path: path.into(), why: why.to_string() });
    }

    /// How many bytes there are to count.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, size)| size).sum()
    }

    /// Pieces of about equal work, `size` bytes each: parts of large files, or several small files.
    pub fn pieces(&self, size: u64) -> Vec<Vec<Part>> {
        let mut pieces = Vec::new();
        let mut piece = Vec::new();
        let mut room = size;
        for (path, length) in &self.files {
            let mut start = 0;
            loop {
                let end = start + room.saturating_sub(OPENING).max(1);
                let end = (end < *length).then_some(end);
                piece.push(Part { path: path.into(), start, end });
                room = room.saturating_sub(OPENING + end.unwrap_or(*length) - start);
                if room <= OPENING {
                    pieces.push(std::mem::take(&mut piece));
                    room = size;
                }
                match end {
                    Some(end) => start = end,
                    None => break,
                }
            }
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
        pieces
    }
}

fn names_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names: Vec<_> =
        fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

impl Part {
    /// Reads it, with the help of `buffer`. An error if the file cannot be read, or is binary.
    pub fn read<'b>(&self, buffer: &'b mut Vec<u8>) -> io::Result<&'b [u8]> {
        buffer.clear();
        // It may have become something else meanwhile: not to wait for whoever writes to a fifo.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file any more"));
        }
        if read_head(&file)?.contains(&0) {
            return Err(io::Error::other("binary"));
        }
        // The byte before the start tells whether the start is already behind white space.
        let first = self.start.saturating_sub(1);
        file.seek(SeekFrom::Start(first))?;
        let Some(end) = self.end else {
            file.read_to_end(buffer)?;
            return Ok(self.without_the_first_cut(buffer));
        };
        (&file).take(end - first).read_to_end(buffer)?;
        if self.without_the_first_cut(buffer).is_empty() {
            return Ok(&[]);
        }
        // To behind the next white space; the last byte may be one.
        let mut looked = buffer.len() - 1;
        loop {
            if let Some(cut) = buffer[looked..].iter().position(is_cut) {
                buffer.truncate(looked + cut + 1);
                break;
            }
            looked = buffer.len();
            if (&file).take(HEAD as u64).read_to_end(buffer)? == 0 {
                break;
            }
        }
        Ok(self.without_the_first_cut(buffer))
    }

    /// What of the text belongs to this part, not to a word that began in the one before.
    fn without_the_first_cut<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        if self.start == 0 {
            return text;
        }
        text.iter().position(is_cut).map_or(&[], |cut| &text[cut + 1..])
    }
}

fn read_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let mut length = 0;
    while length < HEAD {
        match file.read_at(&mut head[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    head.truncate(length);
    Ok(head)
}
