//! The C library that the binary needs: glibc 2.34 or newer, which is what RHEL 9, Ubuntu 22.04 and
//! Amazon Linux 2023 have.

#![cfg(all(target_os = "linux", target_env = "gnu"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader, SectionHeader};

const NEWEST: (u32, u32) = (2, 34);

/// The symbol versions that an ELF file requires of its libraries, such as `GLIBC_2.34`.
fn required_versions(elf: &[u8]) -> Vec<String> {
    let header = FileHeader64::<Endianness>::parse(elf).unwrap();
    let endian = header.endian().unwrap();
    let sections = header.sections(endian, elf).unwrap();
    let mut versions = Vec::new();
    for section in sections.iter() {
        let Some((mut libraries, strings)) = section.gnu_verneed(endian, elf).unwrap() else {
            continue;
        };
        let strings = sections.strings(endian, elf, strings).unwrap();
        while let Some((_, mut needed)) = libraries.next().unwrap() {
            while let Some(version) = needed.next().unwrap() {
                let name = version.name(endian, strings).unwrap();
                versions.push(String::from_utf8(name.to_vec()).unwrap());
            }
        }
    }
    versions
}

/// Whether glibc 2.34 provides this version. `GLIBC_ABI_DT_RELR` and its like came later.
fn is_provided(version: &str) -> bool {
    let Some(number) = version.strip_prefix("GLIBC_") else {
        return true;
    };
    let mut parts = number.split('.').map_while(|part| part.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (parts.next(), parts.next()) else {
        return false;
    };
    (major, minor) <= NEWEST
}

#[test]
fn the_binary_starts_on_glibc_2_34() {
    let elf = fs::read(env!("CARGO_BIN_EXE_sconce")).unwrap();
    let versions = required_versions(&elf);
    assert!(versions.iter().any(|version| version == "GLIBC_2.2.5"), "found only {versions:?}");
    let newer: Vec<_> = versions.iter().filter(|version| !is_provided(version)).collect();
    assert!(newer.is_empty(), "newer than glibc 2.34: {newer:?}");
}

#[test]
fn versions_that_glibc_2_34_lacks_are_recognised() {
    for version in ["GLIBC_2.2.5", "GLIBC_2.34", "GCC_3.0"] {
        assert!(is_provided(version), "{version}");
    }
    for version in ["GLIBC_2.35", "GLIBC_2.36", "GLIBC_ABI_DT_RELR", "GLIBC_3.0"] {
        assert!(!is_provided(version), "{version}");
    }
}
