//! What the files say.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::{
    Bound, Device, THROTTLES, WEIGHT, io_line, number, shown_list, shown_quota, shown_shares,
    shown_weight,
};
use crate::cgroup::placement::read;
use crate::cgroup::v1::UNLIMITED;
use crate::posture::Value;
use crate::proc::escaped;
use crate::proc::fields::{decimal, lines, words};

pub(super) fn v1(directory: BorrowedFd<'_>, bound: Bound) -> Result<Value, Errno> {
    let one = |file: &CStr| single(directory, file);
    let limit = |file: &CStr| Ok(Some(one(file)?).filter(|limit| *limit < UNLIMITED));
    Ok(match bound {
        Bound::Memory => number(limit(c"memory.limit_in_bytes")?),
        Bound::Swap => {
            let memory = one(c"memory.limit_in_bytes")?;
            let both = limit(c"memory.memsw.limit_in_bytes")?;
            number(both.map(|both| both.saturating_sub(memory)))
        }
        Bound::Tasks => number_or_max(&read(directory, c"pids.max")?)?,
        Bound::CpuWeight => shown_shares(one(c"cpu.shares")?),
        Bound::CpuQuota => {
            let quota = read(directory, c"cpu.cfs_quota_us")?;
            let quota = match quota.trim_ascii_end() {
                b"-1" => None,
                quota => Some(decimal(quota).ok_or(Errno::EBADMSG)?),
            };
            shown_quota(quota, one(c"cpu.cfs_period_us")?)
        }
        Bound::Processors => text(directory, c"cpuset.cpus")?,
        Bound::MemoryNodes => text(directory, c"cpuset.mems")?,
        Bound::Io => {
            let mut found: Vec<(Device, [Option<u64>; 4])> = Vec::new();
            for (at, (file, _)) in THROTTLES.iter().enumerate() {
                for line in lines(&read(directory, file)?) {
                    let (device, rate) = device_and_rest(line).ok_or(Errno::EBADMSG)?;
                    let rate = decimal(rate).ok_or(Errno::EBADMSG)?;
                    let position = found.iter().position(|(other, _)| *other == device);
                    let position = position.unwrap_or_else(|| {
                        found.push((device, [None; 4]));
                        found.len() - 1
                    });
                    if let Some(slot) = found
                        .get_mut(position)
                        .and_then(|(_, rates)| rates.get_mut(at))
                    {
                        *slot = Some(rate);
                    }
                }
            }
            found.sort_unstable();
            let weight = match read(directory, c"blkio.bfq.weight") {
                Ok(text) => weight(&text)?,
                Err(Errno::ENOENT) => None,
                Err(errno) => return Err(errno),
            };
            let lines = found.iter().map(|(device, rates)| io_line(*device, *rates));
            Value::List(weight.into_iter().chain(lines).collect())
        }
    })
}

pub(super) fn v2(directory: BorrowedFd<'_>, bound: Bound) -> Result<Value, Errno> {
    let limit = |file: &CStr| number_or_max(&read(directory, file)?);
    Ok(match bound {
        Bound::Memory => limit(c"memory.max")?,
        Bound::Swap => limit(c"memory.swap.max")?,
        Bound::Tasks => limit(c"pids.max")?,
        Bound::CpuWeight => limit(c"cpu.weight")?,
        Bound::CpuQuota => {
            let text = read(directory, c"cpu.max")?;
            let mut fields = words(text.trim_ascii_end());
            let (quota, period) = fields.next().zip(fields.next()).ok_or(Errno::EBADMSG)?;
            let quota = match quota {
                b"max" => None,
                quota => Some(decimal(quota).ok_or(Errno::EBADMSG)?),
            };
            shown_quota(quota, decimal(period).ok_or(Errno::EBADMSG)?)
        }
        Bound::Processors => text(directory, c"cpuset.cpus")?,
        Bound::MemoryNodes => text(directory, c"cpuset.mems")?,
        Bound::Io => {
            let text = read(directory, c"io.max")?;
            let mut found = Vec::new();
            for line in lines(&text) {
                let (device, _) = device_and_rest(line).ok_or(Errno::EBADMSG)?;
                found.push((device, escaped(line.trim_ascii_end())));
            }
            found.sort_unstable();
            let weight = match read(directory, c"io.weight") {
                Ok(text) => weight(&text)?,
                Err(Errno::ENOENT) => None,
                Err(errno) => return Err(errno),
            };
            let lines = found.into_iter().map(|(_, line)| line);
            Value::List(weight.into_iter().chain(lines).collect())
        }
    })
}

/// `MAJOR:MINOR REST`.
fn device_and_rest(line: &[u8]) -> Option<(Device, &[u8])> {
    let blank = line.iter().position(|byte| *byte == b' ')?;
    let (device, rest) = line.split_at(blank);
    let colon = device.iter().position(|byte| *byte == b':')?;
    let (major, minor) = device.split_at(colon);
    let number = (decimal(major)?, decimal(minor.get(1..)?)?);
    Some((number, rest.trim_ascii()))
}

/// The weight of `[default ]N`, where it is not everybody's.
fn weight(text: &[u8]) -> Result<Option<String>, Errno> {
    let first = lines(text).next().ok_or(Errno::EBADMSG)?;
    let weight = words(first).last().and_then(decimal);
    let weight = weight.ok_or(Errno::EBADMSG)?;
    Ok((weight != WEIGHT).then(|| shown_weight(weight)))
}

fn single(directory: BorrowedFd<'_>, file: &CStr) -> Result<u64, Errno> {
    decimal(read(directory, file)?.trim_ascii_end()).ok_or(Errno::EBADMSG)
}

fn number_or_max(text: &[u8]) -> Result<Value, Errno> {
    match text.trim_ascii_end() {
        b"max" => Ok(number(None)),
        limit => decimal(limit)
            .map(|limit| number(Some(limit)))
            .ok_or(Errno::EBADMSG),
    }
}

fn text(directory: BorrowedFd<'_>, file: &CStr) -> Result<Value, Errno> {
    let list = escaped(read(directory, file)?.trim_ascii_end());
    Ok(Value::Text(shown_list(list)))
}
