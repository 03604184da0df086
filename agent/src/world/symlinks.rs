//! Symbolic links: read as they are, replaced atomically and durably, like files.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, bail};

use super::files;
use crate::facts::Observed;

/// Where the link at this path leads; absent if there is nothing, or something that is no link.
pub fn read(path: &Path) -> Observed<String> {
    match std::fs::read_link(path) {
        Ok(target) => Observed::Known(target.to_string_lossy().into_owned()),
        // EINVAL: there is something else (readlink(2)).
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidInput
            ) =>
        {
            Observed::Absent
        }
        Err(error) => Observed::Unknown(format!("could not look at {}: {error}", path.display())),
    }
}

/// Makes `path` a link to `target`, whatever file or link was there; missing directories are made. The target need not
/// exist.
///
/// # Errors
/// What was tried and why it failed; then what was there stands untouched.
pub fn make(path: &Path, target: &Path) -> anyhow::Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{} names no file", path.display());
    };
    files::make_directories(directory)?;
    let could_not = || format!("could not link {} to {}", path.display(), target.display());
    let candidate = directory.join(format!(".{}.oneke-link", name.to_string_lossy()));
    // What a crash left of an earlier attempt.
    files::remove(&candidate)?;
    symlink(target, &candidate).with_context(could_not)?;
    if let Err(error) = std::fs::rename(&candidate, path) {
        files::remove(&candidate)?;
        return Err(error).with_context(could_not);
    }
    files::sync_directory(directory).with_context(could_not)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_replaces_what_is_there_and_may_be_made_twice() {
        let home = tempfile::tempdir().unwrap();
        let (file, link) = (home.path().join("file"), home.path().join("a/b/link"));
        std::fs::write(&file, "theirs").unwrap();
        for target in ["/nowhere", "/nowhere", "/elsewhere"] {
            make(&link, Path::new(target)).unwrap();
            assert_eq!(read(&link), Observed::Known(target.into()));
        }
        symlink("/half", home.path().join(".file.oneke-link")).unwrap();
        assert!(read(&file).is_absent(), "a file is no link");
        make(&file, Path::new("/x")).unwrap();
        assert_eq!(read(&file), Observed::Known("/x".into()));
        assert!(read(&home.path().join("none")).is_absent() && read(&file.join("below")).is_absent());
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 2, "nothing is left beside it");
    }

    #[test]
    fn a_directory_in_the_way_is_an_error_that_names_the_path() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("x");
        std::fs::create_dir(&path).unwrap();
        let error = make(&path, Path::new("/y")).unwrap_err();
        assert!(format!("{error:#}").starts_with(&format!("could not link {} to /y", path.display())));
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
    }
}
