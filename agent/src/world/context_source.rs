//! Where the context comes from: the disk labelled CONTEXT, the directory `/context`, or a file that was named.
//!
//! "Not there" is `Ok(None)`; a disk that is there but does not read is an error. Only small files are read, so plain
//! blocking reads will do.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::context_disk::{self, Mounted};
use super::iso9660::Image;
use crate::plan::{Secret, digest};

/// Larger files are not read at all. The parser's own limit is 16 times smaller, and tells the line.
const MOST: u32 = 16 << 20;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextSource {
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The machine's own.
    Machine { link: PathBuf, blocks: PathBuf, devices: PathBuf, directory: PathBuf },
    /// A file that was named; its neighbours are taken with it.
    File(PathBuf),
}

/// What the front end gave this VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextFiles {
    /// `context.sh`, verbatim; bytes that are no UTF-8 became U+FFFD.
    pub context_sh: Secret,
    /// `token.txt`: OneGate's token, without its line break.
    pub token: Option<Secret>,
    /// Where it was found, for people.
    pub origin: String,
}

/// What a context looks like from outside: another one is another context, or the same written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(String);

impl ContextSource {
    /// This machine's own: the disk, else `/context`.
    pub fn machine() -> Self {
        Self {
            place: Place::Machine {
                link: format!("/dev/disk/by-label/{}", context_disk::LABEL).into(),
                blocks: "/sys/class/block".into(),
                devices: "/dev".into(),
                directory: "/context".into(),
            },
        }
    }

    /// A file that was named, or `context.sh` of a directory that was; and `token.txt` beside it.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { place: Place::File(if path.is_dir() { path.join("context.sh") } else { path }) }
    }

    /// Reads the context; `None`: there is none.
    ///
    /// # Errors
    /// If there is one that does not read, or if it could not be looked for.
    pub fn read(&self) -> anyhow::Result<Option<ContextFiles>> {
        let Some(mut files) = self.open()? else { return Ok(None) };
        let name = files.context_name();
        let Some(bytes) = files.bytes(&name)? else { return Ok(None) };
        // A shell takes any bytes, and scripts and comments in old encodings do no harm: where a value matters, its reader
        // refuses what stands in their place (context/lint.rs).
        let text = String::from_utf8_lossy(&bytes);
        let token = files.text("token.txt")?.map(|text| Secret::new(text.trim()));
        let token = token.filter(|token| !token.expose().is_empty());
        Ok(Some(ContextFiles { context_sh: Secret::new(text), token, origin: files.origin() }))
    }

    /// Another file that came with the context, such as one of `INIT_SCRIPTS`; `None`: it is not there.
    ///
    /// # Errors
    /// As [`ContextSource::read`], and if the name is a path.
    pub fn companion(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        if name.is_empty() || name.contains('/') || matches!(name, "." | "..") {
            bail!("could not read {name:?} of the context: it is no plain file name");
        }
        self.open()?.map_or(Ok(None), |mut files| files.bytes(name))
    }

    /// A look from outside, far cheaper than reading everything; `None`: there is no context.
    ///
    /// # Errors
    /// As [`ContextSource::read`].
    pub fn fingerprint(&self) -> anyhow::Result<Option<Fingerprint>> {
        Ok(match self.place()? {
            None => None,
            Some(Found::File(path)) => Some(Fingerprint(digest(&stamps(&path)))),
            Some(Found::Disk(device)) => Some(Fingerprint(digest(&context_disk::outside(&device)?))),
        })
    }

    fn open(&self) -> anyhow::Result<Option<Files>> {
        Ok(match self.place()? {
            None => None,
            Some(Found::File(path)) => Some(Files::Named(path)),
            Some(Found::Disk(device)) => Some(Files::on_disk(&device)?),
        })
    }

    fn place(&self) -> anyhow::Result<Option<Found>> {
        let file = |path: &Path| {
            let exists = path.try_exists().with_context(|| format!("could not look for {}", path.display()));
            exists.map(|exists| exists.then(|| Found::File(path.to_path_buf())))
        };
        match &self.place {
            Place::File(path) => file(path),
            Place::Machine { link, blocks, devices, directory } => {
                let context = directory.join("context.sh");
                match context_disk::find(link, blocks, devices) {
                    Ok(Some(device)) => Ok(Some(Found::Disk(device))),
                    Ok(None) => file(&context),
                    Err(error) => file(&context)?.map(Some).ok_or(error),
                }
            }
        }
    }
}

/// Where a context was found.
enum Found {
    Disk(PathBuf),
    File(PathBuf),
}

/// The files of a context, where they were found.
enum Files {
    /// An ISO 9660 image on a device.
    Image { image: Image<File>, device: PathBuf },
    /// Another file system, mounted for as long as this lives.
    Mounted { mounted: Mounted, device: PathBuf },
    /// A file that was named.
    Named(PathBuf),
}

impl Files {
    fn on_disk(device: &Path) -> anyhow::Result<Self> {
        let opening = || format!("could not read the context disk {}", device.display());
        let file = File::open(device).with_context(opening)?;
        let device = device.to_path_buf();
        match Image::open(file)
            .with_context(|| format!("could not read the context disk {}", device.display()))?
        {
            Some(image) => Ok(Self::Image { image, device }),
            None => Ok(Self::Mounted { mounted: Mounted::new(&device)?, device }),
        }
    }

    fn origin(&self) -> String {
        match self {
            Self::Image { device, .. } | Self::Mounted { device, .. } => {
                format!("the context disk {}", device.display())
            }
            Self::Named(path) => path.display().to_string(),
        }
    }

    fn context_name(&self) -> String {
        match self {
            Self::Image { .. } | Self::Mounted { .. } => "context.sh".into(),
            Self::Named(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    fn bytes(&mut self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let origin = self.origin();
        let read = match self {
            Self::Image { image, .. } => image.read(name, MOST),
            Self::Mounted { mounted, .. } => bounded(&mounted.path().join(name)),
            Self::Named(path) => bounded(&path.with_file_name(name)),
        };
        read.with_context(|| format!("could not read {name} of {origin}"))
    }

    fn text(&mut self, name: &str) -> anyhow::Result<Option<String>> {
        let Some(bytes) = self.bytes(name)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|error| {
            let good = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count();
            anyhow::anyhow!("{name} of {} is no UTF-8 in line {line}", self.origin())
        })
    }
}

/// A file of at most [`MOST`] bytes; `None` if it is not there.
fn bounded(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    file.take(u64::from(MOST) + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MOST as usize {
        bail!("it has more than {MOST} bytes");
    }
    Ok(Some(bytes))
}

/// Length and time of the file and of the token beside it.
fn stamps(path: &Path) -> String {
    let stamp = |path: &Path| {
        let seen = std::fs::metadata(path).and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
        seen.map_or_else(|error| error.kind().to_string(), |seen| format!("{seen:?}"))
    };
    format!("{} {}", stamp(path), stamp(&path.with_file_name("token.txt")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn iso(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/cases/context/iso/{name}.iso"))
    }

    /// A machine with these block devices, by name and image.
    fn machine(root: &Path, devices: &[(&str, &str)]) -> ContextSource {
        let make = |name: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(&path).unwrap();
            path
        };
        let (blocks, dev) = (make("blocks"), make("dev"));
        for (name, image) in devices {
            std::fs::write(blocks.join(name), "").unwrap();
            if !image.is_empty() {
                std::fs::copy(iso(image), dev.join(name)).unwrap();
            }
        }
        let (link, directory) = (root.join("by-label"), make("context"));
        ContextSource { place: Place::Machine { link, blocks, devices: dev, directory } }
    }

    #[test]
    fn the_disk_is_found_by_its_label() {
        let root = tempfile::tempdir().unwrap();
        let devices = [("loop0", "plain"), ("sr0", ""), ("vda", "other-label"), ("vdb", "both")];
        let source = machine(root.path(), &devices);
        let files = source.read().unwrap().unwrap();
        assert!(files.context_sh.expose().contains("VMID='7'"));
        assert_eq!(files.token.unwrap().expose(), "YWJjZGVmZ2hpamtsbW5vcA==");
        assert!(files.origin.ends_with("/dev/vdb"), "{}", files.origin);
        assert_eq!(source.companion("init.sh").unwrap().unwrap(), b"#!/bin/sh\necho init\n");
        assert!(source.companion("absent.sh").unwrap().is_none());
        assert!(source.companion("../init.sh").is_err());
    }

    #[test]
    fn the_link_wins_and_the_directory_comes_last() {
        let root = tempfile::tempdir().unwrap();
        let source = machine(root.path(), &[("vda", "other-label"), ("vdb", "both")]);
        std::os::unix::fs::symlink(iso("plain"), root.path().join("by-label")).unwrap();
        assert!(source.read().unwrap().unwrap().origin.ends_with("plain.iso"));

        let root = tempfile::tempdir().unwrap();
        let source = machine(root.path(), &[("vda", "other-label")]);
        assert_eq!(source.read().unwrap(), None);
        std::fs::write(root.path().join("context/context.sh"), "VMID='9'\n").unwrap();
        let files = source.read().unwrap().unwrap();
        assert_eq!((files.context_sh.expose(), files.token), ("VMID='9'\n", None));
    }

    #[test]
    fn a_disk_that_does_not_read_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let source = machine(root.path(), &[("vdb", "both")]);
        let disk = root.path().join("dev/vdb");
        let mut bytes = std::fs::read(&disk).unwrap();
        bytes.truncate(50_000);
        std::fs::write(&disk, bytes).unwrap();
        let error = format!("{:#}", source.read().unwrap_err());
        assert!(error.starts_with("could not read context.sh of the context disk"), "{error}");
    }

    #[test]
    fn a_named_file_brings_its_token() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("my.sh");
        let source = ContextSource::file(&path);
        assert_eq!((source.read().unwrap(), source.fingerprint().unwrap()), (None, None));
        std::fs::write(&path, "VMID='1'\n").unwrap();
        assert_eq!(source.read().unwrap().unwrap().token, None);
        let before = source.fingerprint().unwrap();
        assert_eq!(source.fingerprint().unwrap(), before);
        std::fs::write(root.path().join("token.txt"), "abc=\n").unwrap();
        assert_ne!(source.fingerprint().unwrap(), before);
        assert_eq!(source.read().unwrap().unwrap().token.unwrap().expose(), "abc=");
        std::fs::write(&path, b"VMID='1'\nX='\xff'\n").unwrap();
        assert_eq!(source.read().unwrap().unwrap().context_sh.expose(), "VMID='1'\nX='\u{fffd}'\n");
        std::fs::write(root.path().join("token.txt"), b"abc\n\xff").unwrap();
        let error = source.read().unwrap_err().to_string();
        assert!(error.starts_with("token.txt of ") && error.ends_with(" is no UTF-8 in line 2"), "{error}");
    }

    #[test]
    fn a_named_directory_brings_its_context() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(ContextSource::file(root.path()).read().unwrap(), None);
        std::fs::write(root.path().join("context.sh"), "VMID='1'\n").unwrap();
        let files = ContextSource::file(root.path()).read().unwrap().unwrap();
        assert_eq!(files.context_sh.expose(), "VMID='1'\n");
        // What cannot be looked for is not taken for absent.
        let below = root.path().join("x".repeat(300)).join("context.sh");
        assert!(ContextSource::file(below).read().is_err());
    }

    #[test]
    fn another_disk_has_another_fingerprint() {
        let fingerprint = |image| {
            let root = tempfile::tempdir().unwrap();
            let link = root.path().join("by-label");
            let source = machine(root.path(), &[]);
            std::fs::copy(iso(image), root.path().join("disk")).unwrap();
            std::os::unix::fs::symlink(root.path().join("disk"), link).unwrap();
            (source.fingerprint().unwrap(), source.fingerprint().unwrap())
        };
        let (both, again) = fingerprint("both");
        assert!(both.is_some() && both == again);
        assert_ne!(both, fingerprint("xorriso").0);
    }

    /// A disk that is no image, as a machine has it.
    #[test]
    #[ignore = "needs root and a loop device: cargo test -p oneke-agent -- --ignored a_disk_that_is_no_image"]
    fn a_disk_that_is_no_image_is_mounted_and_unmounted() {
        let root = tempfile::tempdir().unwrap();
        let (files, disk) = (root.path().join("files"), root.path().join("disk"));
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("context.sh"), "VMID='8'\n").unwrap();
        std::fs::write(files.join("token.txt"), "abc=\n").unwrap();
        let run = |command: &mut std::process::Command| {
            let output = command.output().unwrap();
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let mut mkfs = std::process::Command::new("mkfs.ext4");
        run(mkfs.args(["-q", "-L", "CONTEXT", "-d"]).arg(&files).arg(&disk).arg("4M"));
        let before = std::fs::read(&disk).unwrap();
        let device = run(std::process::Command::new("losetup").args(["--find", "--show"]).arg(&disk));
        let source = machine(root.path(), &[]);
        std::os::unix::fs::symlink(&device, root.path().join("by-label")).unwrap();
        let read = source.read();
        let mounted = std::fs::read_to_string("/proc/self/mounts").unwrap().contains(&device);
        let seen = (source.fingerprint().unwrap(), source.fingerprint().unwrap());
        run(std::process::Command::new("losetup").args(["--detach", &device]));
        let files = read.unwrap().unwrap();
        assert_eq!((files.context_sh.expose(), files.token.unwrap().expose()), ("VMID='8'\n", "abc="));
        assert!(!mounted, "{device} is still mounted");
        assert!(seen.0.is_some() && seen.0 == seen.1);
        assert!(std::fs::read(&disk).unwrap() == before, "the disk was written to");
    }

    #[test]
    fn an_ext_disk_is_found_by_its_label() {
        let root = tempfile::tempdir().unwrap();
        let source = machine(root.path(), &[("vdb", "")]);
        let mut superblock = vec![0; 4096];
        superblock[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
        superblock[1024 + 0x78..1024 + 0x7f].copy_from_slice(b"CONTEXT");
        std::fs::write(root.path().join("dev/vdb"), &superblock).unwrap();
        assert!(source.fingerprint().unwrap().is_some());
        superblock[1024 + 0x78] = b'X';
        std::fs::write(root.path().join("dev/vdb"), &superblock).unwrap();
        assert_eq!(source.fingerprint().unwrap(), None);
    }
}
