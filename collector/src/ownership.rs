//! Ownership: whether a file or directory may be used as the agent's own, and how it is made so that it is.
//!
//! What another user could have planted is refused: a directory of his, or one in which he can exchange the
//! agent's files; a file of his. Root and the user that everyline runs as are trusted, and so is a group that one of
//! them let write there (an fsGroup volume). Files are made new, never through a link, with their mode whatever the
//! umask is. Does not look at what others' files hold.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::Mode,
    process::{geteuid, umask},
};

/// Of files that nobody but the agent's user reads.
pub const PRIVATE: u32 = 0o600;
/// Of directories that nobody but the agent's user enters.
pub const PRIVATE_DIRECTORY: u32 = 0o700;

const ROOT: u32 = 0;
/// What the kernel shows for users that a user namespace does not know.
const UNKNOWN_USER: u32 = 65_534;
const FOR_OWNER: u32 = 0o700;
const WRITE_BY_OTHERS: u32 = 0o002;
const WRITE_BY_GROUP: u32 = 0o020;
const STICKY: u32 = 0o1000;
const PERMISSIONS: u32 = 0o7777;

/// Filesystems whose owners and modes are made up by a mount option, a server or another machine's mapping: NFS, SMB, 9p, FUSE,
/// FAT (`linux/magic.h`).
const MAPPED: [u32; 7] =
    [0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x6573_5546, 0x4d44, 0x2011_bab0];

/// Why something may not be used as the agent's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// Another unprivileged user made it.
    #[error("{} belongs to user {user}, who is neither root nor the user that everyline runs as", .path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// The user that it belongs to.
        user: u32,
    },
    /// Any user can write to it, and exchange files in it.
    #[error("any user may write to {} (mode {mode:04o})", .path.display())]
    Writable {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It has other names, so it may be another file that somebody linked there.
    #[error("{} has {links} names (hard links)", .path.display())]
    Linked {
        /// The file or directory.
        path: PathBuf,
        /// How many names it has.
        links: u64,
    },
    /// It is a link, a directory, a pipe or a device.
    #[error("{} is no regular file", .path.display())]
    Kind {
        /// The file or directory.
        path: PathBuf,
    },
}

impl Foreign {
    /// The reason in an error of this module.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Owner { .. } => {
                "If it is meant, give it to that user or to root (chown); else set another one."
            }
            Self::Writable { .. } => {
                "Take that right away (chmod o-w), or set a directory that only root or the agent's \
                 user can write to."
            }
            Self::Linked { .. } | Self::Kind { .. } => "Find out who put it there, and remove it.",
        }
    }
}

impl From<Foreign> for io::Error {
    fn from(foreign: Foreign) -> Self {
        Self::new(io::ErrorKind::PermissionDenied, foreign)
    }
}

/// Whatever the umask is: nothing that this process makes is open to all, or to be written by a group.
pub fn keep_from_others() {
    let closed = Mode::WGRP | Mode::RWXO;
    let before = umask(closed);
    umask(before | closed);
}

/// Something that is accepted though it is unusual.
pub type Remark = String;

/// Looks whether a directory, if it is there, may be used as the agent's own. Changes nothing. Answers what
/// is unusual about it.
///
/// # Errors
/// It may not ([`Foreign`]), or it cannot be looked at.
pub fn look_at_directory(path: &Path) -> io::Result<Option<Remark>> {
    let remark = look_at_parents(path)?;
    match fs::metadata(path) {
        Ok(found) => Ok(look(path, &found)?.or(remark)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(remark),
        Err(error) => Err(error),
    }
}

/// Looks whether a file, if it is there, may be used as the agent's own. Changes nothing.
///
/// # Errors
/// It may not ([`Foreign`]), or it cannot be looked at.
pub fn look_at_file(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => Err(Foreign::Kind { path: path.to_owned() }.into()),
        Ok(found) if is_mapped(path) || is_trusted(found.uid()) => Ok(()),
        Ok(found) => Ok(is_ours(path, &found)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes a directory of this mode that is the agent's own, or sees to it that one that is there is. Answers
/// what was or is unusual about it.
///
/// # Errors
/// It is not ([`Foreign`]), or it cannot be made.
pub fn make_directory(path: &Path, mode: u32) -> io::Result<Option<Remark>> {
    // Something that is there and is no directory is said as that.
    let plain = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => io::Error::from(rustix::io::Errno::NOTDIR),
        _ => error,
    };
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(mode | 0o755).create(parent).map_err(plain)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => give_to_owner(path, mode)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(plain(error)),
    }
    let remark = look_at_directory(path)?;
    let found = fs::metadata(path)?;
    if is_open(&found) && found.mode() & STICKY == 0 && !is_mapped(path) {
        let mode = found.mode() & PERMISSIONS & !WRITE_BY_OTHERS;
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    Ok(remark)
}

/// Makes a new file of this mode, less what the umask takes from others.
///
/// # Errors
/// As `open(2)`; something is there already.
pub fn create(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).mode(mode);
    let file = options.custom_flags(FLAGS).open(path)?;
    give_to_owner(path, mode)?;
    Ok(file)
}

/// The umask may have taken away what the agent needs itself.
fn give_to_owner(path: &Path, mode: u32) -> io::Result<()> {
    let made = fs::symlink_metadata(path)?.mode() & PERMISSIONS;
    if made & FOR_OWNER == mode & FOR_OWNER {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(made | mode & FOR_OWNER))
}

/// Opens one of the agent's own files to be read and written, and leaves its mode as it is.
///
/// # Errors
/// It is somebody else's ([`Foreign`]), or as `open(2)`.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).write(true).custom_flags(FLAGS).open(path);
    let file = opened.map_err(|error| unless_link(path, error))?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(Foreign::Kind { path: path.to_owned() }.into());
    }
    if !is_mapped(path) {
        is_ours(path, &found)?;
    }
    Ok(file)
}

/// Opens one of the agent's own private files.
///
/// # Errors
/// As [`open`].
pub fn open_private(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    let found = file.metadata()?;
    if found.mode() & 0o077 != 0 && found.uid() == geteuid().as_raw() {
        // Of a version whose files had the umask's modes. Some filesystems have no modes.
        let _as_it_was = file.set_permissions(Permissions::from_mode(PRIVATE));
    }
    Ok(file)
}

/// Opens one of the agent's own private files, or makes it.
///
/// # Errors
/// As [`open`] and [`create`].
pub fn open_or_create(path: &Path) -> io::Result<File> {
    match open_private(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, PRIVATE),
        opened => opened,
    }
}

/// Gives one of the agent's own private files new content, durably and in one step.
///
/// # Errors
/// As [`create`], or it cannot be written.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = create_anew(&new, PRIVATE)?;
    file.write_all(content)?;
    file.sync_data()?;
    fs::rename(&new, path)
}

/// Makes a new file of this mode in place of what is there: what a crash left, as a rule.
///
/// # Errors
/// As [`create`].
pub fn create_anew(path: &Path, mode: u32) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    create(path, mode)
}

/// Whether an empty file that lies at an output's path may be written to: an operator prepared it, with an owner and
/// a mode to his liking. Where others can put files, it must be root's or the agent's user's.
///
/// # Errors
/// Why not ([`Foreign`]).
pub fn may_adopt(path: &Path, found: &Metadata) -> Result<(), Foreign> {
    if is_mapped(path) {
        return Ok(());
    }
    let path = path.to_owned();
    if found.nlink() > 1 {
        return Err(Foreign::Linked { path, links: found.nlink() });
    }
    if is_open(found) {
        return Err(Foreign::Writable { path, mode: found.mode() & PERMISSIONS });
    }
    let directory = path.parent().and_then(|directory| fs::metadata(directory).ok());
    let only_ours = directory.is_some_and(|directory| {
        is_trusted(directory.uid()) && directory.mode() & (WRITE_BY_GROUP | WRITE_BY_OTHERS) == 0
    });
    if only_ours { Ok(()) } else { is_ours(&path, found) }
}

/// Neither through a link, nor waiting for the other end of a pipe.
const FLAGS: i32 = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;

fn unless_link(path: &Path, error: io::Error) -> io::Error {
    match rustix::io::Errno::from_io_error(&error) {
        Some(rustix::io::Errno::LOOP) => Foreign::Kind { path: path.to_owned() }.into(),
        _ => error,
    }
}

/// Whether a directory or what lies in it could be another user's.
fn look(path: &Path, found: &Metadata) -> io::Result<Option<Remark>> {
    if is_mapped(path) {
        return Ok(None);
    }
    is_ours(path, found)?;
    let shown = path.display();
    let mode = found.mode() & PERMISSIONS;
    if !is_open(found) {
        return Ok(None);
    }
    if mode & STICKY != 0 {
        // Nobody can exchange a file there that is not his, and others' are refused one by one.
        return Ok(Some(format!(
            "Any user may make files in {shown} (mode {mode:04o}). The agent refuses those of others, which can \
             keep it from starting: better use a directory of its own."
        )));
    }
    if found.uid() != geteuid().as_raw() || !holds_only_ours(path)? {
        return Err(Foreign::Writable { path: path.to_owned(), mode }.into());
    }
    Ok(Some(format!(
        "Any user may write to {shown} (mode {mode:04o}). Nobody else has a file there, and an agent takes that \
         right away when it starts."
    )))
}

/// A file or directory is root's or this process's user's.
fn is_ours(path: &Path, found: &Metadata) -> Result<(), Foreign> {
    match found.uid() {
        user if is_trusted(user) => Ok(()),
        user => Err(Foreign::Owner { path: path.to_owned(), user }),
    }
}

fn is_trusted(user: u32) -> bool {
    user == ROOT || user == geteuid().as_raw()
}

fn is_open(found: &Metadata) -> bool {
    found.mode() & WRITE_BY_OTHERS != 0
}

fn holds_only_ours(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let found = entry?.metadata()?;
        if !is_trusted(found.uid()) || (found.is_file() && found.nlink() > 1) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whoever can rename a directory can put another one in its place.
fn look_at_parents(path: &Path) -> io::Result<Option<Remark>> {
    let absolute = std::path::absolute(path)?;
    let real = fs::canonicalize(&absolute).ok();
    let above = absolute.ancestors().skip(1);
    let above = above.chain(real.iter().flat_map(|real| real.ancestors().skip(1)));
    let mut remark = None;
    for directory in above {
        let Ok(found) = fs::metadata(directory) else { continue };
        if is_mapped(directory) {
            continue;
        }
        let mode = found.mode() & PERMISSIONS;
        if is_open(&found) && mode & STICKY == 0 {
            return Err(Foreign::Writable { path: directory.to_owned(), mode }.into());
        }
        let user = found.uid();
        if !is_trusted(user) && user != UNKNOWN_USER {
            remark = Some(format!(
                "{} belongs to user {user}, who can exchange what the agent keeps below it: better use a \
                 directory that only root or the agent's user can exchange.",
                directory.display()
            ));
        }
    }
    Ok(remark)
}

/// Whether owners and modes say nothing there.
fn is_mapped(path: &Path) -> bool {
    // Only the low 32 bits are the magic number, whatever width the field has.
    rustix::fs::statfs(path).is_ok_and(|about| MAPPED.contains(&(about.f_type as u32)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & PERMISSIONS
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// Gives it to a user that is nobody's; false where that needs more rights.
    fn give_away(path: &Path) -> bool {
        chown(path, Some(4711), None).inspect_err(|_| println!("skipped: chown needs root")).is_ok()
    }

    fn why<T: std::fmt::Debug>(refused: io::Result<T>) -> Foreign {
        Foreign::of(&refused.unwrap_err()).unwrap().clone()
    }

    #[test]
    fn a_directory_that_others_can_exchange_files_in_is_refused_or_mended() {
        let above = tempfile::tempdir().unwrap();
        let dir = above.path().join("a/state");
        make_directory(&dir, PRIVATE_DIRECTORY).unwrap();
        assert_eq!((mode(&dir), look_at_directory(&dir).unwrap()), (0o700, None));
        // Modes that somebody chose on purpose stay.
        for chosen in [0o755, 0o750, 0o2775, 0o1770] {
            set_mode(&dir, chosen);
            assert_eq!(look_at_directory(&dir).unwrap(), None, "{chosen:o}");
            make_directory(&dir, PRIVATE_DIRECTORY).unwrap();
            assert_eq!(mode(&dir), chosen);
        }
        set_mode(&dir, 0o777);
        fs::write(dir.join("lock"), "").unwrap();
        assert!(look_at_directory(&dir).unwrap().is_some());
        assert_eq!(mode(&dir), 0o777, "looking changes nothing");
        make_directory(&dir, PRIVATE_DIRECTORY).unwrap();
        assert_eq!(mode(&dir), 0o775);
        // One that many use is not the agent's to change.
        set_mode(&dir, 0o1777);
        make_directory(&dir, PRIVATE_DIRECTORY).unwrap();
        assert_eq!(mode(&dir), 0o1777);
        if give_away(&dir.join("lock")) {
            set_mode(&dir, 0o777);
            assert!(matches!(why(make_directory(&dir, 0o700)), Foreign::Writable { .. }));
            assert!(matches!(why(look_at_directory(&dir)), Foreign::Writable { .. }));
        }
    }

    #[test]
    fn another_users_directory_is_refused_and_so_is_one_below_an_open_one() {
        let above = tempfile::tempdir().unwrap();
        let (outer, dir) = (above.path().join("outer"), above.path().join("outer/state"));
        make_directory(&dir, PRIVATE_DIRECTORY).unwrap();
        let link = above.path().join("link");
        symlink(&dir, &link).unwrap();
        set_mode(&outer, 0o777);
        for path in [&dir, &link, &outer.join("new")] {
            assert!(matches!(why(look_at_directory(path)), Foreign::Writable { .. }), "{path:?}");
        }
        set_mode(&outer, 0o1777);
        assert_eq!(look_at_directory(&dir).unwrap(), None);
        set_mode(&outer, 0o775);
        assert_eq!(look_at_directory(&dir).unwrap(), None);
        if give_away(&outer) {
            assert!(look_at_directory(&dir).unwrap().unwrap().contains("4711"));
            give_away(&dir);
            for path in [&dir, &link] {
                assert!(matches!(why(make_directory(path, 0o700)), Foreign::Owner { .. }));
                assert!(matches!(why(look_at_directory(path)), Foreign::Owner { .. }));
            }
        }
    }

    #[test]
    fn own_files_are_private_and_nobody_elses_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        open_or_create(&path).unwrap().write_all(b"7").unwrap();
        assert_eq!(mode(&path), PRIVATE);
        set_mode(&path, 0o644);
        open_or_create(&path).unwrap();
        assert_eq!(mode(&path), PRIVATE, "of a former version");
        assert_eq!(fs::read(&path).unwrap(), b"7");
        assert_eq!(create(&path, PRIVATE).unwrap_err().kind(), io::ErrorKind::AlreadyExists);

        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(why(open_or_create(&link)), Foreign::Kind { .. }));
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR).unwrap();
        assert!(matches!(why(open_or_create(&pipe)), Foreign::Kind { .. }));
        if give_away(&path) {
            assert!(matches!(why(open_or_create(&path)), Foreign::Owner { user: 4711, .. }));
        }
    }

    #[test]
    fn content_is_replaced_in_one_step_whatever_lies_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("selves"), dir.path().join("elsewhere"));
        fs::write(&elsewhere, "theirs").unwrap();
        symlink(&elsewhere, dir.path().join("selves.new")).unwrap();
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!((fs::read(&path).unwrap(), mode(&path)), (b"two".to_vec(), PRIVATE));
        assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
        assert!(!dir.path().join("selves.new").exists());
    }

    #[test]
    fn a_prepared_output_is_adopted_only_where_nobody_else_could_have_put_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        fs::write(&path, "").unwrap();
        set_mode(&path, 0o660);
        let may = || may_adopt(&path, &fs::symlink_metadata(&path).unwrap());
        assert_eq!(may(), Ok(()));
        let is_root = give_away(&path);
        if is_root {
            assert_eq!(may(), Ok(()), "an operator gave it to whom he liked");
        }
        for open in [0o1777, 0o777, 0o775] {
            set_mode(dir.path(), open);
            assert!(!is_root || matches!(may(), Err(Foreign::Owner { .. })), "{open:o}");
        }
        set_mode(dir.path(), 0o700);
        set_mode(&path, 0o666);
        assert!(matches!(may(), Err(Foreign::Writable { .. })));
        set_mode(&path, 0o600);
        fs::hard_link(&path, dir.path().join("other")).unwrap();
        assert!(matches!(may(), Err(Foreign::Linked { links: 2, .. })));
    }
}
