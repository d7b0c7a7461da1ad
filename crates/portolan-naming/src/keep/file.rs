//! The file itself: read whole, and replaced in one step.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::form::Unusable;

/// The most bytes a table may have: some 100,000 instances.
pub(super) const LIMIT: u64 = 64 << 20;

/// Reads the file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Unusable> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unusable::Unreadable(error.to_string())),
    };
    let mut bytes = Vec::new();
    match file.take(LIMIT + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > LIMIT => Err(Unusable::TooLarge),
        Ok(_) => Ok(Some(bytes)),
        Err(error) => Err(Unusable::Unreadable(error.to_string())),
    }
}

/// Replaces the file, or leaves the old one as it is.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() as u64 > LIMIT {
        return Err(io::Error::other(format!("{} bytes; at most {LIMIT} are kept", bytes.len())));
    }
    let directory = directory(path);
    fs::create_dir_all(directory)?;
    let draft = draft(path);
    let written = create(&draft).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let written = written.and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        let _nothing_to_remove = fs::remove_file(&draft);
    }
    written?;
    // The new name is durable only with its directory.
    File::open(directory)?.sync_all()
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Two processes may keep the same file; each drafts its own.
fn draft(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

/// For nobody else to read: registrations may hold what is no stranger's business.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
