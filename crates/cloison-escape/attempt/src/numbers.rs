//! One system call by its number, with arguments that make it fail or with
//! given ones.

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

/// Writes `trying N` for `number` N (with `arguments`, six of them), issues the call and writes `answer R`. A
/// call that ends the process, blocks or forks is part of the answer: who
/// runs this looks at the lines, the exit and the time.
pub(crate) fn number(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let number: u32 = arguments.number("number")?;
    let given = match arguments.text("arguments") {
        Ok(words) => Some(parse(words)?),
        Err(_) => None,
    };
    let tried = report(number as usize, given);
    tried.map_err(|error| CouldNotTry(format!("standard output: {error}")))?;
    Ok(ExitCode::SUCCESS)
}

fn parse(words: &str) -> Result<[usize; 6], CouldNotTry> {
    let wrong = || CouldNotTry(format!("arguments={words} are not six numbers"));
    let numbers: Result<Vec<u32>, _> = words.split(',').map(str::parse).collect();
    let numbers: [u32; 6] = numbers
        .map_err(|_| wrong())?
        .try_into()
        .map_err(|_| wrong())?;
    Ok(numbers.map(|number| number as usize))
}

fn report(number: usize, given: Option<[usize; 6]>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "trying {number}")?;
    out.flush()?;
    let answer = attempt(number, given);
    writeln!(out, "answer {answer}")?;
    out.flush()
}

/// What the kernel answered, error numbers negative.
fn attempt(number: usize, given: Option<[usize; 6]>) -> i128 {
    let arguments = match (given, number) {
        (Some(given), _) => given,
        (None, FORK | VFORK) => return fork(number) as i128,
        // With every flag set it would make a queue; with none it finds none.
        (None, MSGGET) => [0x00c1_0150, 0, 0, 0, 0, 0],
        (None, _) => [NOTHING; 6],
    };
    // SAFETY: a call that takes a pointer finds no user address there: given
    // arguments are samples of flags and numbers, below the program. Those
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
