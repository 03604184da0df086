//! The contexts of the machines: recorded ones of the marketplace's service, with what a scenario wants changed.

const STORAGE: &str = include_str!("../../cases/context/marketplace-storage/context.sh");
const MASTER: &str = include_str!("../../cases/context/marketplace-master/context.sh");

/// A storage VM's.
pub fn storage(changes: &[(&str, &str)]) -> String {
    with(STORAGE, changes)
}

/// A master's.
pub fn master(changes: &[(&str, &str)]) -> String {
    with(MASTER, changes)
}

/// Of VM 41 in all cases: the serial numbers of its disks begin with this.
fn with(recorded: &str, changes: &[(&str, &str)]) -> String {
    let changes = [&[("VMID", "41")], changes].concat();
    let kept = recorded.lines().filter(|line| {
        let name = line.split('=').next().unwrap_or_default();
        changes.iter().all(|(changed, _)| *changed != name)
    });
    let changed = changes.iter().map(|(name, value)| format!("{name}='{value}'"));
    kept.map(str::to_owned).chain(changed).map(|line| line + "\n").collect()
}
