//! B21: the sandbox's own init, which runs as the same user.

use crate::arguments::Arguments;
use crate::processes::Target;
use crate::report::{CouldNotTry, Report};
use crate::sys;

/// Where a program that is not relocated usually starts. A wrong guess is as
/// good as a right one, see [`Target::address`].
const LIKELY_ADDRESS: usize = 0x40_0000;

/// Inspects and changes process `target`, which is 1 unless told otherwise.
pub(crate) fn b21(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let pid = arguments.number_or("target", 1)?;
    if pid == sys::own_pid() {
        return Err(CouldNotTry("the target is this program itself".to_owned()));
    }
    let target = Target {
        pid,
        address: LIKELY_ADDRESS,
    };
    target.inspect(None, report);
    target.set_back(report);
    Ok(())
}
