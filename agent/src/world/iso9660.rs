//! Reads small files from the root of an ISO 9660 image, with Rock Ridge's or Joliet's names where it has them.
//!
//! The context CD needs no more, and reading it here saves a mount. Every size is bounded and every field distrusted:
//! a damaged image gives an error, never a panic or a long loop. (ECMA-119; IEEE P1281 and P1282 for Rock Ridge.)

use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, ensure};

/// Descriptors and directories count in sectors of this size (ECMA-119, 6.1.2).
const SECTOR: usize = 2048;
/// Where the first volume descriptor is (ECMA-119, 6.7.1).
const FIRST_DESCRIPTOR: u64 = 16;
/// Images have three or four descriptors.
const MOST_DESCRIPTORS: u64 = 32;
/// A root directory of this size has some thousand files; a context CD has a handful.
const MOST_DIRECTORY: u32 = 256 * 1024;
/// Continuation areas that one directory record may lead through; real ones need one.
const MOST_CONTINUATIONS: usize = 8;

/// An image, open for reading.
pub struct Image<R> {
    source: R,
    /// The primary volume descriptor.
    primary: Vec<u8>,
    /// Bytes in a logical block.
    block: u64,
    /// The root of the Joliet tree.
    joliet: Option<Extent>,
}

/// A run of bytes in the image.
#[derive(Clone, Copy)]
struct Extent {
    block: u32,
    length: u32,
}

/// A file in the root directory.
struct Entry {
    name: String,
    /// The name is the short one in capitals that ISO 9660 itself has.
    short: bool,
    extent: Extent,
    /// Its bytes are one run: no directory, no interleaving, no second extent.
    plain: bool,
}

impl<R: Read + Seek> Image<R> {
    /// Opens an image; `None` if it has no ISO 9660 volume.
    ///
    /// # Errors
    /// If it cannot be read, or is damaged.
    pub fn open(mut source: R) -> anyhow::Result<Option<Self>> {
        let (mut primary, mut joliet) = (None, None);
        for number in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + MOST_DESCRIPTORS {
            let Some(sector) = sector(&mut source, number)? else { break };
            if sector.get(1..6) != Some(b"CD001") {
                break;
            }
            match sector.first() {
                Some(1) if primary.is_none() => primary = Some(sector),
                Some(2) if is_joliet(&sector) => joliet = root(&sector),
                Some(255) => break,
                _ => {}
            }
        }
        let Some(primary) = primary else { return Ok(None) };
        let block = u16_at(&primary, 128).unwrap_or_default();
        ensure!(matches!(block, 512 | 1024 | 2048), "a logical block of {block} bytes");
        Ok(Some(Self { source, primary, block: block.into(), joliet }))
    }

    /// The volume's name.
    pub fn label(&self) -> String {
        let label = self.primary.get(40..72).unwrap_or_default();
        String::from_utf8_lossy(label).trim_end_matches([' ', '\0']).to_owned()
    }

    /// A file of the root directory, by the name that it was given; `None` if it is not there.
    ///
    /// # Errors
    /// If the image cannot be read or is damaged, or if the file is larger than `limit` bytes.
    pub fn read(&mut self, name: &str, limit: u32) -> anyhow::Result<Option<Vec<u8>>> {
        for (root, joliet) in self.trees() {
            let entries = self.entries(root, joliet)?;
            let matches =
                |entry: &Entry| entry.name == name || (entry.short && entry.name.eq_ignore_ascii_case(name));
            if let Some(entry) = entries.into_iter().find(matches) {
                let length = entry.extent.length;
                ensure!(entry.plain, "{name} is no plain file");
                ensure!(length <= limit, "{name} has {length} bytes, at most {limit} are read");
                return Ok(Some(self.bytes(entry.extent).with_context(|| format!("could not read {name}"))?));
            }
        }
        Ok(None)
    }

    /// Bytes that differ between two images unless they are the same: the volume's description, which holds the time
    /// of its making, and the root directory, with each file's place, length and time.
    ///
    /// # Errors
    /// As [`Image::read`].
    pub fn fingerprint(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = self.primary.clone();
        for (root, _) in self.trees() {
            bytes.extend(self.directory(root)?);
        }
        Ok(bytes)
    }

    /// The primary tree, then Joliet's; the latter with `true`.
    fn trees(&self) -> Vec<(Extent, bool)> {
        let primary = root(&self.primary).map(|root| (root, false));
        primary.into_iter().chain(self.joliet.map(|root| (root, true))).collect()
    }

    fn directory(&mut self, root: Extent) -> anyhow::Result<Vec<u8>> {
        let length = root.length;
        ensure!(length <= MOST_DIRECTORY, "a root directory of {length} bytes");
        self.bytes(root).context("could not read the root directory")
    }

    fn entries(&mut self, root: Extent, joliet: bool) -> anyhow::Result<Vec<Entry>> {
        let directory = self.directory(root)?;
        let mut entries = Vec::new();
        let mut skip = 0;
        let mut at = 0;
        while let Some(length) = directory.get(at).copied().map(usize::from) {
            if length == 0 {
                // Records do not cross sectors: the rest of this one is empty.
                at = (at / SECTOR + 1) * SECTOR;
                continue;
            }
            let record = directory.get(at..at + length).context("a directory record without its end")?;
            let (name, system) = split(record).context("a directory record without its name")?;
            match name {
                [0] if at == 0 => skip = suspension(system),
                [0] | [1] => {}
                _ if joliet => entries.push(entry(record, joliet_name(name), false)?),
                _ => {
                    let long = self.rock_ridge_name(system.get(skip..).unwrap_or_default())?;
                    let short = long.is_none();
                    entries.push(entry(record, long.unwrap_or_else(|| short_name(name)), short)?);
                }
            }
            at += length;
        }
        Ok(entries)
    }

    /// The name that `NM` entries of the system use area give, through its continuations (P1282, 4.1.4).
    fn rock_ridge_name(&mut self, area: &[u8]) -> anyhow::Result<Option<String>> {
        let mut name: Option<Vec<u8>> = None;
        let mut area = area.to_vec();
        for _ in 0..MOST_CONTINUATIONS {
            let mut continuation = None;
            let mut rest = area.as_slice();
            while let [a, b, length, _version, ..] = *rest {
                let Some(field) = rest.get(4..usize::from(length)) else { break };
                match &[a, b] {
                    // Flags 2 and 4 stand for the directory itself and its parent.
                    b"NM" if field.first().is_some_and(|flags| flags & 6 == 0) => {
                        name.get_or_insert_default().extend(&field[1..]);
                    }
                    b"CE" => continuation = Some((u32_at(field, 0), u32_at(field, 8), u32_at(field, 16))),
                    b"ST" => break,
                    _ => {}
                }
                rest = &rest[usize::from(length)..];
            }
            let Some((Some(block), Some(offset), Some(length))) = continuation else { break };
            ensure!(
                length as usize <= SECTOR && offset as usize <= SECTOR,
                "a continuation of {length} bytes"
            );
            let whole = self.bytes(Extent { block, length: offset + length })?;
            area = whole.get(offset as usize..).unwrap_or_default().to_vec();
        }
        Ok(name.map(|name| String::from_utf8_lossy(&name).into_owned()))
    }

    /// The bytes of an extent, whose length the caller has bounded.
    fn bytes(&mut self, extent: Extent) -> anyhow::Result<Vec<u8>> {
        self.source.seek(SeekFrom::Start(u64::from(extent.block) * self.block))?;
        let mut bytes = Vec::new();
        let read = (&mut self.source).take(extent.length.into()).read_to_end(&mut bytes)?;
        ensure!(read == extent.length as usize, "the image ends too early");
        Ok(bytes)
    }
}

/// A sector, or `None` beyond the end.
fn sector(source: &mut (impl Read + Seek), number: u64) -> std::io::Result<Option<Vec<u8>>> {
    source.seek(SeekFrom::Start(number * SECTOR as u64))?;
    let mut bytes = Vec::with_capacity(SECTOR);
    source.take(SECTOR as u64).read_to_end(&mut bytes)?;
    Ok((bytes.len() == SECTOR).then_some(bytes))
}

/// A supplementary volume whose escape sequence is one of UCS-2's three levels.
fn is_joliet(descriptor: &[u8]) -> bool {
    descriptor.get(88..91).is_some_and(|escape| matches!(escape, b"%/@" | b"%/C" | b"%/E"))
}

/// The root directory of a volume descriptor (ECMA-119, 8.4.18).
fn root(descriptor: &[u8]) -> Option<Extent> {
    extent(descriptor.get(156..190)?)
}

fn extent(record: &[u8]) -> Option<Extent> {
    // An extended attribute record, which nobody writes, would come before the data.
    let block = u32_at(record, 2)?.checked_add(u32::from(*record.get(1)?))?;
    Some(Extent { block, length: u32_at(record, 10)? })
}

/// A directory record's name and its system use area (ECMA-119, 9.1).
fn split(record: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(*record.get(32)?);
    let name = record.get(33..33 + length)?;
    let padded = 33 + length + usize::from(length % 2 == 0);
    Some((name, record.get(padded..).unwrap_or_default()))
}

/// How many bytes of each system use area are not Rock Ridge's: `SP` of the root directory (P1281, 5.3).
fn suspension(system: &[u8]) -> usize {
    match system {
        [b'S', b'P', 7, 1, 0xbe, 0xef, skip, ..] => usize::from(*skip),
        _ => 0,
    }
}

fn entry(record: &[u8], name: String, short: bool) -> anyhow::Result<Entry> {
    let extent = extent(record).context("a directory record without its place")?;
    let (flags, unit) =
        (record.get(25).copied().unwrap_or_default(), record.get(26).copied().unwrap_or_default());
    // Flags: 2 is a directory, 128 means that a further extent follows (ECMA-119, 9.1.6).
    Ok(Entry { name, short, extent, plain: flags & (2 | 128) == 0 && unit == 0 })
}

/// `CONTEXT.SH;1` as `CONTEXT.SH`.
fn short_name(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let name = name.split_once(';').map_or(&*name, |(name, _)| name);
    name.trim_end_matches('.').to_owned()
}

/// UCS-2, most significant byte first, with or without a version.
fn joliet_name(name: &[u8]) -> String {
    let units: Vec<u16> = name.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let name = String::from_utf16_lossy(&units);
    name.strip_suffix(";1").map_or(name.clone(), str::to_owned)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    const LONG: &str = "a-long-name-that-needs-rock-ridge-or-joliet.sh";

    /// Images as genisoimage and xorriso make them from the same four files.
    fn image(name: &str) -> Vec<u8> {
        let path = format!("{}/../tests/cases/context/iso/{name}.iso", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("could not read {path}: {error}"))
    }

    fn open(bytes: Vec<u8>) -> Image<Cursor<Vec<u8>>> {
        Image::open(Cursor::new(bytes)).unwrap().unwrap()
    }

    #[test]
    fn every_dialect_reads_alike() {
        for name in ["plain", "rock-ridge", "joliet", "both", "xorriso"] {
            let mut image = open(image(name));
            let mut text = |file: &str| {
                let bytes = image.read(file, 4096).unwrap();
                bytes.map(|bytes| String::from_utf8(bytes).unwrap())
            };
            let context = "# Context variables generated by OpenNebula\nVMID='7'\nNL='one\ntwo'\n";
            assert_eq!(text("context.sh").as_deref(), Some(context), "{name}");
            assert_eq!(text("token.txt").as_deref(), Some("YWJjZGVmZ2hpamtsbW5vcA==\n"), "{name}");
            assert_eq!(text("init.sh").as_deref(), Some("#!/bin/sh\necho init\n"), "{name}");
            let long = (name != "plain").then_some("#!/bin/sh\necho long\n");
            assert_eq!(text(LONG).as_deref(), long, "{name}");
            assert_eq!(text("absent"), None, "{name}");
            assert_eq!(image.label(), "CONTEXT", "{name}");
        }
    }

    #[test]
    fn what_is_no_image_is_none() {
        assert!(Image::open(Cursor::new(vec![0; 100])).unwrap().is_none());
        assert!(Image::open(Cursor::new(vec![0; 100_000])).unwrap().is_none());
    }

    #[test]
    fn sizes_are_bounded() {
        let mut image = open(image("both"));
        let error = image.read("context.sh", 10).unwrap_err().to_string();
        assert_eq!(error, "context.sh has 66 bytes, at most 10 are read");
    }

    #[test]
    fn a_cut_image_is_an_error() {
        let mut bytes = image("both");
        let whole = open(bytes.clone()).fingerprint().unwrap();
        bytes.truncate(bytes.len() / 2);
        assert!(open(bytes).read("token.txt", 4096).is_err());
        assert!(open(image("xorriso")).fingerprint().unwrap() != whole);
    }

    proptest! {
        #[test]
        fn damage_never_panics(
            name in prop::sample::select(vec!["plain", "rock-ridge", "joliet", "both", "xorriso"]),
            damage in prop::collection::vec((32_768_usize..75_776, any::<u8>()), 1..40),
            cut in prop::option::of(0_usize..75_776),
        ) {
            let mut bytes = image(name);
            for (at, byte) in damage {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            bytes.truncate(cut.unwrap_or(usize::MAX));
            if let Ok(Some(mut image)) = Image::open(Cursor::new(bytes)) {
                let _ = (image.read("context.sh", 4096), image.read(LONG, 4096), image.fingerprint());
            }
        }

        #[test]
        fn wild_directories_never_panic(record in prop::collection::vec(any::<u8>(), 0..256), at in 0_usize..2048) {
            let mut bytes = image("both");
            let root = root(&bytes[32_768..34_816]).unwrap();
            let place = root.block as usize * SECTOR + at;
            let end = (place + record.len()).min(bytes.len());
            bytes[place..end].copy_from_slice(&record[..end - place]);
            let _ = open(bytes).read(LONG, 4096);
        }
    }
}
