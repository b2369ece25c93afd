//! What the cgroup of a sandbox bounds: all of its processes together.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Limits of all processes of a sandbox together, kept by its cgroup.
///
/// Each of the numbers is there with nothing said: a sandbox without bounds
/// cannot be asked for.
///
/// # Kernel
/// cgroup v2 (4.15 for all of it, 5.0 for processors) or v1. A limit that no
/// hierarchy of the host can keep is an error, never left out.
///
/// # Source
/// The kernel's documentation of cgroup v2 and v1; cgroups(7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CgroupLimits {
    /// Memory, with the page cache that it dirties and its memory file
    /// systems.
    ///
    /// # Units
    /// Bytes, at least 16 MiB; rounded down to whole pages by the kernel.
    pub memory_bytes_max: u64,
    /// How much of that may be in swap beside.
    ///
    /// # Units
    /// Bytes; rounded down to whole pages by the kernel.
    pub swap_bytes_max: u64,
    /// Processes and threads, at least 3.
    pub tasks_max: u64,
    /// Its share of the processors where others want them too, 1 to 10,000;
    /// everybody has 100 at first.
    pub cpu_weight: u64,
    /// How much of the processors it may use also where nobody else wants
    /// them: 100 is one of them.
    ///
    /// # Units
    /// Hundredths of one processor, in each fiftieth of a second; less than 5
    /// in each tenth.
    pub cpu_percent_max: u64,
    /// The processors that it may run on. `None`: those of the cgroup above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processors: Option<NumberList>,
    /// The memory nodes that it may take from. `None`: those of the cgroup
    /// above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_nodes: Option<NumberList>,
    /// Its share of each block device where others want it too, 1 to 10,000
    /// (version 1: to 1,000). `None`: that of everybody. The kernel keeps the
    /// number everywhere, and goes by it on devices with the `bfq` scheduler or
    /// an enabled `io.cost.qos` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u64>,
    /// How fast it may use each block device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io: Vec<IoLimit>,
}

impl Default for CgroupLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 512 << 20,
            swap_bytes_max: 0,
            tasks_max: 512,
            cpu_weight: 100,
            cpu_percent_max: 100,
            processors: None,
            memory_nodes: None,
            io_weight: None,
            io: Vec::new(),
        }
    }
}

/// How fast a sandbox may use one block device. What is not named has no
/// limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoLimit {
    /// The device on the host: a whole one, no partition.
    pub device: PathBuf,
    /// Bytes read in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_s_max: Option<u64>,
    /// Bytes written in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_bytes_per_s_max: Option<u64>,
    /// Reads in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads_per_s_max: Option<u64>,
    /// Writes in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes_per_s_max: Option<u64>,
}

/// A list of processors or memory nodes as the kernel writes it: `0-3,8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NumberList(BTreeSet<u16>);

/// Why a string is not a [`NumberList`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a list has numbers from 0 to 8191 and ranges of them, rising and parted by commas: `0-3,8`"
)]
pub struct NumberListError;

impl NumberList {
    /// The largest number: the kernel is built for no more processors.
    const MOST: u16 = 8191;

    /// Reads `text`.
    ///
    /// # Errors
    /// [`NumberListError`], with the rule.
    ///
    /// # Source
    /// cpuset(7), "List format"
    pub fn new(text: &str) -> Result<Self, NumberListError> {
        let mut numbers = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (Self::number(first)?, Self::number(last)?);
            let is_rising = numbers.last().is_none_or(|largest| *largest < first);
            if first > last || !is_rising {
                return Err(NumberListError);
            }
            numbers.extend(first..=last);
        }
        Ok(Self(numbers))
    }

    fn number(text: &str) -> Result<u16, NumberListError> {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| *number <= Self::MOST);
        number.filter(|_| is_plain).ok_or(NumberListError)
    }
}

impl TryFrom<String> for NumberList {
    type Error = NumberListError;

    fn try_from(text: String) -> Result<Self, NumberListError> {
        Self::new(&text)
    }
}

impl From<NumberList> for String {
    fn from(list: NumberList) -> Self {
        list.to_string()
    }
}

/// As the kernel writes it: neighbours as ranges.
impl std::fmt::Display for NumberList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut numbers = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = numbers.next() {
            let mut last = first;
            while let Some(next) = numbers.next_if(|next| *next == last + 1) {
                last = next;
            }
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::NumberList;

    #[test]
    fn lists_are_those_of_the_kernel() {
        for (text, shown) in [
            ("0", "0"),
            ("0,1,2,8", "0-2,8"),
            ("0-3,8", "0-3,8"),
            ("7-7", "7"),
            ("8191", "8191"),
        ] {
            let list = NumberList::new(text).map(|list| list.to_string());
            assert_eq!(list.as_deref(), Ok(shown), "{text}");
        }
        for bad in [
            "", ",", "0,", "-1", "3-0", "0-", "1,0", "0,0", "0-2,2", "8192", "+1", " 0", "0\n",
            "0-3:1/2", "a", "٣",
        ] {
            assert!(NumberList::new(bad).is_err(), "{bad:?}");
        }
    }
}
