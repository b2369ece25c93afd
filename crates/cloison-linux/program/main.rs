//! The static program: spawner or init, by its first argument's name.
//!
//! Compiled by this crate's build script from the crate's own modules,
//! without std, libc or alloc: what it lacks it cannot call.

#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn)]

#[path = "../src/child.rs"]
mod child;
#[path = "../src/clone.rs"]
mod clone;
#[path = "../src/execs.rs"]
mod execs;
#[path = "../src/init.rs"]
mod init;
#[path = "../src/message.rs"]
#[allow(dead_code, reason = "the other half is the caller's")]
mod message;
#[path = "../src/socket.rs"]
mod socket;
#[path = "../src/spawner.rs"]
mod spawner;
#[path = "../src/steps.rs"]
#[allow(dead_code, reason = "the other half is the caller's")]
mod steps;
#[path = "../src/sys.rs"]
#[allow(dead_code, reason = "the other half is the caller's")]
mod sys;

use core::arch::{asm, global_asm};

global_asm!(
    ".globl _start",
    "_start:",
    "xor %ebp, %ebp",
    "mov %rsp, %rdi",
    "and $-16, %rsp",
    "call {main}",
    "ud2",
    main = sym main,
    options(att_syntax),
);

/// # Safety
/// `stack` is the stack as execve(2) laid it out: a count, that many
/// addresses and a 0, then the environment's addresses and a 0.
unsafe extern "C" fn main(stack: *const u64) -> ! {
    // SAFETY: the caller's promise.
    let count = unsafe { core::ptr::read(stack) } as usize;
    // SAFETY: the addresses follow the count.
    let arguments = unsafe { stack.add(1) }.cast::<*const u8>();
    if count == 1 {
        // SAFETY: the only call, before any other thread could exist.
        unsafe { spawner::serve() }
    }
    if count < 3 {
        sys::exit(64)
    }
    // SAFETY: behind the arguments and their 0.
    let environment = unsafe { arguments.add(count + 1) };
    // SAFETY: laid out by execve(2), at least three entries.
    unsafe { init::run(arguments, environment) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    sys::exit(70)
}

/// # Safety
/// As memcpy(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: copies `count` bytes between buffers of that size; the
    // direction flag is clear by the calling convention.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    to
}

/// # Safety
/// As memset(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: fills `count` bytes of a buffer of that size; the direction
    // flag is clear by the calling convention.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
    }
    to
}
