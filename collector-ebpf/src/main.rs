//! Everyline's eBPF programs: a tally of watched files, kept by the kernel.
//!
//! One module per kind of hook; `tally` is what they share. No log byte passes here, and nothing
//! here decides what is read: a program counts, and wakes user space at most once per look.
//!
//! Deliberately without CO-RE: Rust has none. Offsets of kernel fields are read-only globals that
//! user space sets from the running kernel's BTF before it loads a program (see `fields`).
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(unsafe_code, reason = "every access is to kernel memory, checked by the verifier")]
#![expect(
    unreachable_pub,
    reason = "the loader finds a program by its section, nobody by its path"
)]

mod any;
mod exits;
mod ext4;
mod fields;
mod maps;
mod open_files;
mod tally;
mod xfs;

/// The kernel lets programs that are GPL-compatible use what these use.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
