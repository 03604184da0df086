//! Disks that are somebody's: made by their owners' tools, or byte by byte where these may be missing.

use super::machine::{Disk, ran};

/// What it is, and how it comes onto a disk.
type Foreign = (&'static str, fn(&Disk));

/// What a disk may hold that nobody may format.
pub const FOREIGN: [Foreign; 10] = [
    ("swap", |disk| ran("mkswap", &[&disk.path()])),
    ("a partition table of DOS", dos),
    ("a partition table, GPT", gpt),
    ("LVM", lvm),
    ("LUKS", luks),
    ("an ISO image", |disk| disk.write(0x8000, b"\x01CD001\x01")),
    ("two signatures", |disk| {
        ran("mkfs.ext4", &["-q", &disk.path()]);
        luks(disk);
    }),
    ("ext2", |disk| ran("mkfs.ext2", &["-q", &disk.path()])),
    ("bytes at its beginning", |disk| disk.write(12_345, b"a database of one's own")),
    ("bytes at its end", |disk| disk.write(Disk::SIZE - 600, b"metadata of a RAID controller")),
];

/// One Linux partition at 1 MiB.
fn dos(disk: &Disk) {
    let mut entry = [0, 0, 2, 0, 0x83, 0, 0, 0].to_vec();
    entry.extend(2048_u32.to_le_bytes());
    entry.extend(100_000_u32.to_le_bytes());
    disk.write(440, &[1, 2, 3, 4]);
    disk.write(446, &entry);
    disk.write(510, &[0x55, 0xaa]);
}

/// An empty table (UEFI, chapter 5).
fn gpt(disk: &Disk) {
    let last = Disk::SIZE / 512 - 1;
    let mut protective = [0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff].to_vec();
    protective.extend(1_u32.to_le_bytes());
    protective.extend((last as u32).to_le_bytes());
    disk.write(446, &protective);
    disk.write(510, &[0x55, 0xaa]);
    let mut header = b"EFI PART\0\0\x01\0\x5c\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    for number in [1, last, 34, last - 33] {
        header.extend(number.to_le_bytes());
    }
    header.extend([7; 16]);
    header.extend(2_u64.to_le_bytes());
    for number in [128, 128, crc(!0, &[0; 128 * 128]) ^ !0] {
        header.extend(number.to_le_bytes());
    }
    let sum = crc(!0, &header) ^ !0;
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    disk.write(512, &header);
}

/// A physical volume's label in the second sector (lvm2, label.h).
fn lvm(disk: &Disk) {
    let mut rest = 32_u32.to_le_bytes().to_vec();
    rest.extend(b"LVM2 001abcdefghijklmnopqrstuvwxyz012345");
    rest.resize(512 - 20, 0);
    let mut label = b"LABELONE".to_vec();
    label.extend(1_u64.to_le_bytes());
    label.extend(crc(0xf597_a6cf, &rest).to_le_bytes());
    label.extend(rest);
    disk.write(512, &label);
}

/// Version 1's header (cryptsetup, on-disk format).
fn luks(disk: &Disk) {
    disk.write(0, b"LUKS\xba\xbe\x00\x01aes");
    disk.write(168, b"52e4c438-8ed2-4103-b710-22d421120efc");
}

/// CRC-32 with the reflected polynomial of Ethernet; without the last inversion.
fn crc(initial: u32, bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    bytes.iter().fold(initial, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
