//! One system call by its number, with arguments that make it fail.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::arguments::Arguments;
use crate::report::CouldNotTry;
use crate::sys::{self, Answer};

const FORK: usize = 57;
const VFORK: usize = 58;

/// Writes `trying N`, issues call `number` and writes `answer 0`, or the error
/// number in its place. A call that ends the process, blocks or forks is part
/// of the answer: who runs this looks at the lines, the exit and the time.
pub(crate) fn numbers(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let number: usize = arguments.number("number")?;
    report(number).map_err(|error| CouldNotTry(format!("standard output: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn report(number: usize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "trying {number}")?;
    out.flush()?;
    let error = match try_number(number) {
        Ok(_) => 0,
        Err(sys::Errno(error)) => error,
    };
    writeln!(out, "answer {error}")?;
    out.flush()
}

/// Issues call `number` with every argument at -1: no descriptor, no pointer
/// and no size is valid, so a call that takes any fails without effect.
fn try_number(number: usize) -> Answer {
    if number == FORK || number == VFORK {
        return fork(number);
    }
    // SAFETY: every pointer is at -1, which is no user address. What takes no
    // argument exits, blocks or changes an attribute of this process, but not
    // its memory or descriptors.
    unsafe { sys::call(number, [usize::MAX; 6]) }
}

/// fork or vfork, whose child ends before it touches the stack it may share.
fn fork(number: usize) -> Answer {
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
    sys::decode(answer)
}
