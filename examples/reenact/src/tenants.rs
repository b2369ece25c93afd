//! The 21 tenants, and what they keep: plausible, made up, the same at every
//! run, different for each.

use std::fmt::Write as _;

/// How many there are.
pub(crate) const COUNT: usize = 21;

/// Their names.
pub(crate) const NAMES: [&str; COUNT] = [
    "bakery",
    "notary",
    "garage",
    "florist",
    "butcher",
    "pharmacy",
    "plumber",
    "optician",
    "bookshop",
    "carpenter",
    "cleaning",
    "brewery",
    "hairdresser",
    "dentist",
    "locksmith",
    "printer",
    "tailor",
    "vineyard",
    "architect",
    "accountant",
    "veterinary",
];

/// What every file that may be changed begins with.
pub(crate) const CANARY: &str = "CLOISON CANARY";

/// One file of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Its name below the folder that is served.
    pub(crate) name: &'static str,
    /// What stands in it.
    pub(crate) content: String,
}

/// The files of the tenant called `name`.
pub(crate) fn files(name: &str) -> Vec<File> {
    let mut numbers = Numbers::seeded(name);
    vec![
        file("welcome.txt", welcome(name)),
        file("accounts.csv", accounts(name, &mut numbers)),
        file("payroll.csv", payroll(name, &mut numbers)),
        file("quotes.csv", quotes(name, &mut numbers)),
        file("letters/reminder.txt", reminder(name, &mut numbers)),
    ]
}

fn file(name: &'static str, body: String) -> File {
    let content = format!("{CANARY}\n{body}");
    File { name, content }
}

fn welcome(name: &str) -> String {
    format!("Welcome to the {name}. Open Monday to Saturday.\n")
}

fn accounts(name: &str, numbers: &mut Numbers) -> String {
    let mut text = format!("{name}: accounts\nmonth,income,expenses\n");
    for month in 1..=12 {
        let income = 9_000 + numbers.below(14_000);
        let expenses = 6_000 + numbers.below(9_000);
        line(&mut text, format_args!("{month},{income},{expenses}"));
    }
    text
}

fn payroll(name: &str, numbers: &mut Numbers) -> String {
    const PEOPLE: [&str; 8] = [
        "A. Arnaud",
        "B. Besson",
        "C. Clerc",
        "D. Dumas",
        "E. Estève",
        "F. Fabre",
        "G. Garnier",
        "H. Hamon",
    ];
    let mut text = format!("{name}: payroll\nperson,hours,gross\n");
    let first = numbers.below(5) as usize;
    for person in PEOPLE.iter().skip(first).take(4) {
        let hours = 120 + numbers.below(40);
        let gross = hours * (13 + numbers.below(15));
        line(&mut text, format_args!("{person},{hours},{gross}"));
    }
    text
}

fn quotes(name: &str, numbers: &mut Numbers) -> String {
    let mut text = format!("{name}: quotes\nnumber,client,amount\n");
    for number in 1..=6 {
        let client = 100 + numbers.below(900);
        let amount = 80 + numbers.below(4_000);
        line(&mut text, format_args!("Q-{number:03},{client},{amount}"));
    }
    text
}

fn reminder(name: &str, numbers: &mut Numbers) -> String {
    let invoice = 1_000 + numbers.below(9_000);
    format!("The {name} kindly reminds you of invoice {invoice}.\n")
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing into a String does not fail.
    if writeln!(text, "{content}").is_err() {
        text.push('\n');
    }
}

/// Numbers that depend on a name alone.
struct Numbers(u64);

impl Numbers {
    fn seeded(name: &str) -> Self {
        let fold = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{CANARY, NAMES, files};

    #[test]
    fn each_tenant_has_files_of_its_own() {
        let all: Vec<_> = NAMES.iter().flat_map(|name| files(name)).collect();
        let different: BTreeSet<_> = all.iter().map(|file| &file.content).collect();
        assert_eq!(different.len(), all.len());
        assert!(all.iter().all(|file| file.content.starts_with(CANARY)));
        assert_eq!(files("bakery"), files("bakery"));
    }
}
