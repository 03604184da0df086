//! Files: read as they are; replaced whole, atomically and durably, and only by what their owner accepts.
//!
//! A reader sees the old file or the new one, never a part, and after a power loss likewise: the candidate is written
//! beside the target under a hidden name, checked, synced, renamed over it, and the directory is synced.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, bail};

use super::checker;
use crate::facts::{self, Observed};
use crate::plan::{Content, FileSpec, Secret};

/// 4 MiB: a file of ours is a few kilobytes; one that is larger is not what we think it is.
const LARGEST: u64 = 4 << 20;

/// A file's content and mode. A symbolic link is followed: what its readers see is what counts.
pub fn read(path: &Path) -> Observed<facts::File> {
    match try_read(path) {
        Ok(file) => Observed::Known(file),
        Err(error) if is_missing(&error) => Observed::Absent,
        Err(error) => Observed::Unknown(format!("could not read {}: {error}", path.display())),
    }
}

fn try_read(path: &Path) -> std::io::Result<facts::File> {
    // Without O_NONBLOCK a FIFO at this path would hang the agent.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(std::io::Error::other("it is larger than 4 MiB"));
    }
    // What is no UTF-8 is not ours either: it compares unequal to everything that we want to write.
    let content = String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Ok(facts::File { mode: metadata.permissions().mode() & 0o7777, content: Secret::new(content) })
}

/// Whether something is at this path, a link's target included.
pub fn exists(path: &Path) -> Observed<()> {
    match std::fs::metadata(path) {
        Ok(_) => Observed::Known(()),
        Err(error) if is_missing(&error) => Observed::Absent,
        Err(error) => Observed::Unknown(format!("could not look at {}: {error}", path.display())),
    }
}

/// A sure "not there": no such entry, or a parent that is no directory.
fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Writes a file of ours; its checker must accept it first.
///
/// # Errors
/// What was tried and why it failed; then the old file stands untouched and nothing is left beside it.
pub async fn write(file: &FileSpec) -> anyhow::Result<()> {
    let secret = matches!(file.content, Content::Secret(_));
    let check = async |candidate: &Path| match file.checker {
        Some(checker) => checker::accepts(checker, candidate, secret).await,
        None => Ok(()),
    };
    replace(Path::new(&file.path), file.mode, file.content.as_str(), check).await
}

/// Replaces `path` by `content` once `check` has accepted the candidate. A symbolic link at `path` is replaced, not
/// followed; missing directories are made with mode 0755.
///
/// # Errors
/// As [`write`].
pub async fn replace(
    path: &Path,
    mode: u32,
    content: &str,
    check: impl AsyncFnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{} names no file", path.display());
    };
    make_directories(directory)?;
    let prefix = format!(".{}.oneke-", name.to_string_lossy());
    sweep(directory, &prefix);
    let could_not = || format!("could not write {}", path.display());
    // Created with mode 0600, so that a secret is never readable by others, not even for a moment.
    let candidate = tempfile::Builder::new().prefix(&prefix).tempfile_in(directory);
    let candidate = candidate.map_err(nameless).with_context(could_not)?;
    candidate.as_file().write_all(content.as_bytes()).with_context(could_not)?;
    check(candidate.path()).await?;
    candidate.as_file().set_permissions(Permissions::from_mode(mode)).with_context(could_not)?;
    candidate.as_file().sync_all().with_context(could_not)?;
    candidate.persist(path).map_err(|error| error.error).with_context(could_not)?;
    sync_directory(directory).with_context(could_not)
}

/// Without the candidate's name, which is another one each time (`... at path "/etc/.x.oneke-Ab12Cd"`): the same failure
/// is told in the same words, so that the journal tells it once.
fn nameless(error: std::io::Error) -> anyhow::Error {
    let told = error.to_string();
    anyhow::Error::msg(told.split(" at path ").next().unwrap_or_default().to_owned())
}

/// Removes a file; absent already is success.
///
/// # Errors
/// What was tried and why it failed.
pub fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("could not remove {}", path.display())),
    }
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes a directory and its parents, each of them durable before anything is put into it.
pub(super) fn make_directories(directory: &Path) -> anyhow::Result<()> {
    // The parent of a relative path's first name is the empty path: where the process stands.
    if directory.is_dir() || directory.as_os_str().is_empty() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_directories(parent)?;
    }
    let could_not = || format!("could not make the directory {}", directory.display());
    match DirBuilder::new().mode(0o755).create(directory) {
        Ok(()) => {
            // The mask of the process may have taken bits that other services need to get through.
            std::fs::set_permissions(directory, Permissions::from_mode(0o755)).with_context(could_not)?;
            directory.parent().map_or(Ok(()), sync_directory)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        Err(error) => Err(error).with_context(could_not),
    }
}

/// Removes what a crash left of earlier candidates for the same file. Only one agent runs (see `cli::run`), so
/// nobody else is writing one. Failing costs a stale hidden file, not the write.
fn sweep(directory: &Path, prefix: &str) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            // Best effort, see above.
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

/// Makes what happened to the entries of a directory durable.
pub(super) fn sync_directory(directory: &Path) -> anyhow::Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .with_context(|| format!("could not sync the directory {}", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn accept(_: &Path) -> anyhow::Result<()> {
        Ok(())
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn writes_with_its_mode_and_makes_directories() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("a/b/c.conf");
        replace(&path, 0o640, "one", accept).await.unwrap();
        replace(&path, 0o644, "two", accept).await.unwrap();
        let file = read(&path);
        let file = file.known().unwrap();
        assert_eq!((file.mode, file.content.expose()), (0o644, "two"));
        assert_eq!(names(&home.path().join("a/b")), ["c.conf"]);
        let mode = std::fs::metadata(home.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
    }

    #[tokio::test]
    async fn a_refused_candidate_leaves_the_last_good_file_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("haproxy.cfg");
        replace(&path, 0o644, "good", accept).await.unwrap();
        let refuse = async |candidate: &Path| {
            assert_eq!(std::fs::read_to_string(candidate).unwrap(), "bad");
            let mode = std::fs::metadata(candidate).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "nobody else may read a candidate");
            bail!("haproxy refused it")
        };
        let error = replace(&path, 0o644, "bad", refuse).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "haproxy refused it");
        assert_eq!(read(&path).known().unwrap().content.expose(), "good");
        assert_eq!(names(home.path()), ["haproxy.cfg"]);
    }

    #[tokio::test]
    async fn a_link_is_replaced_and_its_target_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (target, link) = (home.path().join("target"), home.path().join("link"));
        std::fs::write(&target, "theirs").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(crate::world::symlinks::read(&link).known().map(String::as_str), target.to_str());
        replace(&link, 0o600, "ours", accept).await.unwrap();
        assert!(
            crate::world::symlinks::read(&link).is_absent()
                && crate::world::symlinks::read(&home.path().join("none")).is_absent()
        );
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "theirs");
    }

    #[tokio::test]
    async fn what_a_crash_left_is_swept_and_other_files_stay() {
        let home = tempfile::tempdir().unwrap();
        for stale in [".x.conf.oneke-Ab12Cd", ".x.conf.other", ".y.conf.oneke-Ab12Cd"] {
            std::fs::write(home.path().join(stale), "half").unwrap();
        }
        replace(&home.path().join("x.conf"), 0o644, "whole", accept).await.unwrap();
        assert_eq!(names(home.path()), [".x.conf.other", ".y.conf.oneke-Ab12Cd", "x.conf"]);
    }

    #[tokio::test]
    async fn a_directory_in_the_way_is_an_error_that_names_the_path() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x");
        std::fs::create_dir(&path).unwrap();
        let error = replace(&path, 0o644, "", accept).await.unwrap_err();
        assert!(format!("{error:#}").starts_with(&format!("could not write {}", path.display())));
        assert_eq!(names(home.path()), ["x"]);
    }

    #[tokio::test]
    async fn the_same_failure_is_told_in_the_same_words() {
        let failure =
            async || format!("{:#}", replace(Path::new("/proc/x"), 0o644, "", accept).await.unwrap_err());
        let (first, second) = (failure().await, failure().await);
        assert!(first.starts_with("could not write /proc/x: ") && first == second, "{first} | {second}");
    }

    #[test]
    fn absent_and_unreadable_differ() {
        let home = tempfile::tempdir().unwrap();
        assert!(read(&home.path().join("none")).is_absent());
        assert!(matches!(read(home.path()), Observed::Unknown(why) if why.contains("no regular file")));
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(read(&file.join("below")).is_absent());
        assert!(exists(&file.join("below")).is_absent());
        let large = home.path().join("large");
        File::create(&large).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(matches!(read(&large), Observed::Unknown(why) if why.contains("4 MiB")));
    }

    #[test]
    fn removing_twice_succeeds() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        remove(&file).unwrap();
        remove(&file).unwrap();
        assert!(exists(&file).is_absent());
    }
}
