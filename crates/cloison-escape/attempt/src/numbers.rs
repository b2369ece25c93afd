//! One system call by its number, with arguments that make it fail.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::arguments::Arguments;
use crate::report::CouldNotTry;
use crate::sys;

const FORK: usize = 57;
const VFORK: usize = 58;
const MSGGET: usize = 68;

/// No descriptor, pointer, size or set of flags.
const NOTHING: usize = usize::MAX;

/// Writes `trying N` for `number` N, issues the call and writes `answer R`. A
/// call that ends the process, blocks or forks is part of the answer: who
/// runs this looks at the lines, the exit and the time.
pub(crate) fn number(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let number: u32 = arguments.number("number")?;
    let tried = report(number as usize);
    tried.map_err(|error| CouldNotTry(format!("standard output: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn report(number: usize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "trying {number}")?;
    out.flush()?;
    let answer = attempt(number);
    writeln!(out, "answer {answer}")?;
    out.flush()
}

/// What the kernel answered, error numbers negative.
fn attempt(number: usize) -> i128 {
    let arguments = match number {
        FORK | VFORK => return fork(number) as i128,
        // With every flag set it would make a queue; with none it finds none.
        MSGGET => [0x00c1_0150, 0, 0, 0, 0, 0],
        _ => [NOTHING; 6],
    };
    // SAFETY: a call that takes a pointer finds no user address there. Those
    // that take no argument exit, block or change an attribute of this
    // process, which holds nothing but two lines of text.
    let answer = unsafe { sys::call(number, arguments) };
    match answer {
        Ok(value) => value as i128,
        Err(errno) => -i128::from(errno.0),
    }
}

/// fork or vfork, whose child ends before it touches the stack it may share.
fn fork(number: usize) -> isize {
    let answer: isize;
    // SAFETY: between the two calls the child runs register instructions only,
    // and the second, exit_group, does not return.
    unsafe {
        core::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, 231",
            "xor edi, edi",
            "syscall",
            "2:",
            inlateout("rax") number => answer,
            lateout("rdi") _,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    answer
}
