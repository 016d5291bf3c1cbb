//! The file: a tar of parts of some megabytes with the manifest and its hash at the end, so that it is written in one go
//! with bounded memory, and one that was cut off shows. Nothing of what is inside is known here.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use flate2::Compression;
use flate2::write::GzEncoder;
use mesh_types::Timestamp;
use sha2::{Digest, Sha256};

use super::manifest::{FORMAT, Manifest, Part};
use crate::failure::advised;

const MANIFEST: &str = "manifest.json";
const MANIFEST_HASH: &str = "manifest.sha256";
/// A part is closed when it is as large as this, packed.
const PART_BYTES: usize = 4 * 1024 * 1024;
/// No part of ours is larger: one row or message more than the above.
const PART_BYTES_MAX: u64 = 1024 * 1024 * 1024;
const MANIFEST_BYTES_MAX: u64 = 256 * 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;

/// Writes under another name until it is whole. As secret as the database: readable by its owner only.
pub(super) struct Writer {
    tar: tar::Builder<BufWriter<File>>,
    partial: PathBuf,
    target: PathBuf,
    at: Timestamp,
    is_whole: bool,
}

impl Writer {
    pub(super) fn create(target: &Path, at: Timestamp) -> anyhow::Result<Self> {
        if target.exists() {
            let error = anyhow!("{} is there already", target.display());
            return Err(advised(error, "name another file with --to, or move it away"));
        }
        let mut partial = target.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        if partial.exists() {
            // Of a run that was cut off; its mode may be another one.
            std::fs::remove_file(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        }
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial);
        let file = opened.with_context(|| format!("cannot write {}", partial.display()))?;
        Ok(Self {
            tar: tar::Builder::new(BufWriter::new(file)),
            partial,
            target: target.to_owned(),
            at,
            is_whole: false,
        })
    }

    /// A series of parts below `folder`.
    pub(super) fn parts(&mut self, folder: &str, packing: Packing) -> Parts<'_> {
        Parts {
            sink: Sink::new(packing),
            folder: folder.to_owned(),
            packing,
            written: Vec::new(),
            archive: self,
        }
    }

    fn add(&mut self, path: &str, bytes: &[u8]) -> anyhow::Result<Part> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.at.as_millis() / 1_000);
        header.set_entry_type(tar::EntryType::Regular);
        let added = self.tar.append_data(&mut header, path, bytes);
        added.with_context(|| format!("cannot write {}", self.partial.display()))?;
        Ok(Part {
            path: path.to_owned(),
            bytes: bytes.len() as u64,
            sha256: hex::encode(Sha256::digest(bytes)),
        })
    }

    /// Adds the manifest and gives the file its name. Its size in bytes.
    pub(super) fn finish(mut self, manifest: &Manifest) -> anyhow::Result<u64> {
        let text = serde_json::to_vec_pretty(manifest)?;
        let hash = self.add(MANIFEST, &text)?.sha256;
        self.add(MANIFEST_HASH, hash.as_bytes())?;
        let mut close = || {
            self.tar.finish()?;
            let buffer = self.tar.get_mut();
            buffer.flush()?;
            buffer.get_ref().sync_all()?;
            let bytes = buffer.get_ref().metadata()?.len();
            std::fs::rename(&self.partial, &self.target)?;
            Ok::<_, std::io::Error>(bytes)
        };
        let bytes = close().with_context(|| format!("cannot finish {}", self.target.display()))?;
        self.is_whole = true;
        Ok(bytes)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_whole {
            // Half of an archive is of no use; that it cannot be removed changes nothing.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// How the bytes of a part are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Gzip,
    /// They are packed already.
    AsTheyAre,
}

enum Sink {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    AsTheyAre(Vec<u8>),
}

impl Sink {
    fn new(packing: Packing) -> Self {
        match packing {
            Packing::Gzip => Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::fast()))),
            Packing::AsTheyAre => Self::AsTheyAre(Vec::new()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Gzip(encoder) => encoder.get_ref().len(),
            Self::AsTheyAre(bytes) => bytes.len(),
        }
    }
}

/// Cuts what is written into parts; `finish` must be called.
pub(super) struct Parts<'a> {
    archive: &'a mut Writer,
    folder: String,
    packing: Packing,
    sink: Sink,
    written: Vec<Part>,
}

impl Parts<'_> {
    pub(super) fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match &mut self.sink {
            Sink::Gzip(encoder) => encoder.write_all(bytes)?,
            Sink::AsTheyAre(kept) => kept.extend_from_slice(bytes),
        }
        if self.sink.len() >= PART_BYTES {
            self.close()?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> anyhow::Result<Vec<Part>> {
        // What the encoder holds back has no length yet.
        if self.written.is_empty() || matches!(self.sink, Sink::Gzip(_)) || self.sink.len() > 0 {
            self.close()?;
        }
        Ok(self.written)
    }

    fn close(&mut self) -> anyhow::Result<()> {
        let (bytes, ending) = match std::mem::replace(&mut self.sink, Sink::new(self.packing)) {
            Sink::Gzip(encoder) => (encoder.finish()?, ".gz"),
            Sink::AsTheyAre(bytes) => (bytes, ""),
        };
        let path = format!("{}/{:06}{ending}", self.folder, self.written.len());
        let part = self.archive.add(&path, &bytes)?;
        self.written.push(part);
        Ok(())
    }
}

/// A whole archive: every byte of it was compared with the manifest.
pub(super) struct Archive {
    file: File,
    path: PathBuf,
    /// Where each part begins.
    places: BTreeMap<String, u64>,
    pub(super) manifest: Manifest,
}

impl Archive {
    /// Reads all of it once; `seen` hears of the bytes.
    pub(super) fn open(path: &Path, seen: impl Fn(u64)) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let (found, manifest) = scan(&file, &seen).map_err(|error| broken(path, &format!("{error:#}")))?;
        let manifest = manifest.map_err(|why| broken(path, &why))?;
        if manifest.format > FORMAT {
            let error = anyhow!(
                "{} has format {}, and this mesh knows {FORMAT}: it was made by mesh {}",
                path.display(),
                manifest.format,
                manifest.mesh
            );
            return Err(advised(error, format!("use mesh {} or newer", manifest.mesh)));
        }
        let mut places = BTreeMap::new();
        for part in manifest.parts() {
            let Some(seen) = found.get(&part.path) else {
                return Err(broken(path, &format!("{} is missing", part.path)));
            };
            if seen.bytes != part.bytes || seen.sha256 != part.sha256 {
                return Err(broken(path, &format!("{} is not what was written", part.path)));
            }
            places.insert(part.path.clone(), seen.at);
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            places,
            manifest,
        })
    }

    /// The bytes of a part as they were written before they were packed, a piece at a time.
    pub(super) fn unpacked(&self, part: &Part) -> anyhow::Result<Box<dyn Read + '_>> {
        let raw = self.raw(part)?;
        Ok(if part.path.ends_with(".gz") {
            Box::new(flate2::read::GzDecoder::new(raw))
        } else {
            Box::new(raw)
        })
    }

    fn raw(&self, part: &Part) -> anyhow::Result<impl Read + '_> {
        let at = self.places.get(&part.path);
        let at = at.ok_or_else(|| broken(&self.path, &format!("{} is missing", part.path)))?;
        let mut file = &self.file;
        file.seek(SeekFrom::Start(*at))?;
        Ok(file.take(part.bytes))
    }
}

/// The next piece of at most `READ_BYTES`; `None` at the end.
pub(super) fn piece(from: &mut dyn Read, bytes: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut piece = Vec::with_capacity(bytes.min(READ_BYTES));
    from.take(bytes as u64).read_to_end(&mut piece)?;
    Ok((!piece.is_empty()).then_some(piece))
}

struct Found {
    at: u64,
    bytes: u64,
    sha256: String,
}

type Scanned = (BTreeMap<String, Found>, Result<Manifest, String>);

/// Place, size and hash of every file in it, and the manifest.
fn scan(file: &File, seen: &impl Fn(u64)) -> anyhow::Result<Scanned> {
    let mut tar = tar::Archive::new(file);
    let mut found = BTreeMap::new();
    let (mut manifest, mut noted) = (None, None);
    for entry in tar.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let (at, bytes) = (entry.raw_file_position(), entry.header().size()?);
        if bytes > PART_BYTES_MAX {
            anyhow::bail!("{path} is larger than any part");
        }
        if path == MANIFEST || path == MANIFEST_HASH {
            let mut kept = Vec::new();
            entry.take(MANIFEST_BYTES_MAX).read_to_end(&mut kept)?;
            let into = if path == MANIFEST { &mut manifest } else { &mut noted };
            *into = Some(kept);
            continue;
        }
        let mut hasher = Sha256::new();
        let mut counted = 0;
        while let Some(piece) = piece(&mut entry, READ_BYTES)? {
            hasher.update(&piece);
            counted += piece.len() as u64;
        }
        if counted != bytes {
            anyhow::bail!("{path} is cut off");
        }
        seen(bytes);
        let sha256 = hex::encode(hasher.finalize());
        found.insert(path, Found { at, bytes, sha256 });
    }
    Ok((found, checked(manifest, noted)))
}

fn checked(manifest: Option<Vec<u8>>, noted: Option<Vec<u8>>) -> Result<Manifest, String> {
    let (Some(manifest), Some(noted)) = (manifest, noted) else {
        return Err("it has no manifest: it was cut off, or is something else".into());
    };
    if hex::encode(Sha256::digest(&manifest)).as_bytes() != noted.as_slice() {
        return Err("its manifest is not what was written".into());
    }
    serde_json::from_slice(&manifest).map_err(|error| format!("its manifest cannot be read: {error}"))
}

fn broken(path: &Path, why: &str) -> anyhow::Error {
    let error = anyhow!("{} is no whole backup of a mesh: {why}", path.display());
    advised(
        error,
        "nothing was changed; take another copy of the file, or another backup",
    )
}

#[cfg(test)]
mod tests;
