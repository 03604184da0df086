//! Kernel parameters, through `/proc/sys`.

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::Context;

use crate::facts::Observed;

/// A parameter's value as the kernel prints it, without the line's end.
pub fn read(key: &str) -> Observed<String> {
    match std::fs::read_to_string(path_of(key)) {
        Ok(value) => Observed::Known(value.trim_end().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Observed::Absent,
        Err(error) => Observed::Unknown(format!("could not read the kernel parameter {key}: {error}")),
    }
}

/// Sets a parameter.
///
/// # Errors
/// Why the kernel refused it.
pub fn write(key: &str, value: &str) -> anyhow::Result<()> {
    std::fs::write(path_of(key), value)
        .with_context(|| format!("could not set the kernel parameter {key} to {value}"))
}

/// The file of a dotted name. The name of an interface may hold dots itself: in `net.ipv4.conf.NAME.KEY` everything
/// between is NAME; elsewhere sysctl.d(5)'s way is understood, which writes such a dot as a slash.
fn path_of(key: &str) -> PathBuf {
    let parts: Vec<&str> = key.split('.').collect();
    let path = match parts.as_slice() {
        ["net", family @ ("ipv4" | "ipv6"), kind @ ("conf" | "neigh"), name @ .., last]
            if !name.is_empty() =>
        {
            format!("net/{family}/{kind}/{}/{last}", name.join(".").replace('/', "."))
        }
        _ => parts.iter().map(|part| part.replace('/', ".")).collect::<Vec<_>>().join("/"),
    };
    PathBuf::from("/proc/sys").join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_become_slashes_except_within_an_interface() {
        for (key, path) in [
            ("net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            ("net.ipv4.conf.eth0.rp_filter", "/proc/sys/net/ipv4/conf/eth0/rp_filter"),
            ("net.ipv4.conf.eth0.100.rp_filter", "/proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
            ("net.ipv4.conf.eth0/100.rp_filter", "/proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
            ("fs.inotify.max_user_watches", "/proc/sys/fs/inotify/max_user_watches"),
        ] {
            assert_eq!(path_of(key), PathBuf::from(path), "{key}");
        }
    }

    #[test]
    fn a_parameter_that_the_kernel_lacks_is_absent() {
        assert!(read("net.no_such_parameter").is_absent());
        assert!(read("kernel.ostype").known().is_some_and(|value| value == "Linux"));
    }
}
