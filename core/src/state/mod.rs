//! What a node keeps on disk between its runs: its incarnation, and where it last knew members.
//!
//! One file, replaced whole: it is written under another name, flushed and renamed, so that a
//! crash leaves the old or the new one. A checksum tells a torn or damaged file, which is set aside
//! and never stops a node: it starts as if it had kept nothing.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use serde::{Deserialize, Serialize};

use crate::member::NodeId;

/// How many members are kept: enough to find one that is there.
pub(crate) const MEMBERS_MAX: usize = 256;
/// No honest file is longer.
const BYTES_MAX: u64 = 256 << 10;
const NAME: &str = "node.peerage";
/// The format; the last byte is its version.
const MAGIC: &[u8; 8] = b"PEERAGE\x01";

/// What is kept.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) cluster: String,
    pub(crate) node_id: String,
    pub(crate) incarnation: u64,
    /// Members other than the node itself, those that were live first.
    pub(crate) members: Vec<(NodeId, SocketAddr)>,
}

/// What was found on disk.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) kept: Option<Kept>,
    /// A damaged file: where it is now, and what was wrong with it. It is where it was if it could not
    /// be set aside, which is said then.
    pub(crate) set_aside: Option<(PathBuf, String)>,
}

/// Makes the directory if need be and reads what is kept in it. An error is one of the directory,
/// not of what is in it: that stops nobody.
pub(crate) fn read(dir: &Path) -> io::Result<Found> {
    fs::create_dir_all(dir)?;
    let path = dir.join(NAME);
    let bytes = match read_file(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
        Err(e) => Err(format!("cannot be read: {e}")),
    };
    match bytes.and_then(|bytes| parse(&bytes)) {
        Ok(kept) => Ok(Found { kept: Some(kept), set_aside: None }),
        Err(reason) => {
            let found = match set_aside(&path) {
                Ok(aside) => (aside, reason),
                Err(e) => (path, format!("{reason}; and it cannot be set aside: {e}")),
            };
            Ok(Found { kept: None, set_aside: Some(found) })
        }
    }
}

/// The file's bytes, or why they are none of ours.
fn read_file(path: &Path) -> io::Result<Result<Vec<u8>, String>> {
    let meta = fs::metadata(path)?;
    match meta.len() {
        _ if !meta.is_file() => Ok(Err("is no file".into())), // a pipe would never end
        length if length > BYTES_MAX => Ok(Err(format!("{length} bytes long"))),
        _ => fs::read(path).map(Ok),
    }
}

/// Replaces what is kept.
pub(crate) fn write(dir: &Path, kept: &Kept) -> io::Result<()> {
    let body = postcard::to_stdvec(kept).map_err(io::Error::other)?;
    let sum = digest(&SHA256, &body);
    let new = dir.join(format!("{NAME}.new"));
    let mut file = File::create(&new)?;
    file.write_all(MAGIC)?;
    file.write_all(sum.as_ref())?;
    file.write_all(&body)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&new, dir.join(NAME))?;
    // The rename itself is on disk only once the directory is; not every system can do that.
    if let Ok(dir) = File::open(dir) {
        let _ = dir.sync_all();
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Kept, String> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err("not a file of this version of Peerage".into());
    };
    let Some((sum, body)) = rest.split_at_checked(SHA256_OUTPUT_LEN) else {
        return Err(format!("only {} bytes long", bytes.len()));
    };
    if digest(&SHA256, body).as_ref() != sum {
        return Err("its checksum does not fit: it was not written whole, or changed since".into());
    }
    let kept: Kept = postcard::from_bytes(body).map_err(|e| format!("does not decode: {e}"))?;
    if kept.members.len() > MEMBERS_MAX {
        return Err(format!("names {} members", kept.members.len()));
    }
    Ok(kept)
}

/// Renames a damaged file, or what else is there under its name; one that was set aside before gives way,
/// though not a directory with something in it.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = path.with_extension("peerage.damaged");
    fs::rename(path, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests;
