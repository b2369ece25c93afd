//! Lines and numbers of `/proc` files.

/// The lines of `text`, without their ends and without empty ones.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
}

/// The words of `text`, parted by blanks and tabs.
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b' ' || *byte == b'\t')
        .filter(|word| !word.is_empty())
}

/// A decimal number, and nothing else.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    number(text, 10)
}

/// A hexadecimal number without prefix, and nothing else.
pub(crate) fn hexadecimal(text: &[u8]) -> Option<u64> {
    number(text, 16)
}

/// A decimal number that may be negative.
pub(crate) fn signed(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(rest) => 0_i64.checked_sub_unsigned(decimal(rest)?),
        None => i64::try_from(decimal(text)?).ok(),
    }
}

fn number(text: &[u8], radix: u32) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = char::from(*byte).to_digit(radix)?;
        value
            .checked_mul(u64::from(radix))?
            .checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_or_nothing() {
        assert_eq!(decimal(b"4294967295"), Some(4_294_967_295));
        assert_eq!(signed(b"-1000"), Some(-1000));
        assert_eq!(signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(hexadecimal(b"000001fffeffffff"), Some(0x1ff_feff_ffff));
        for odd in [
            &b""[..],
            b"-",
            b"1 ",
            b"0x1",
            b"\xff",
            b"18446744073709551616",
        ] {
            assert_eq!((decimal(odd), signed(odd)), (None, None), "{odd:?}");
        }
    }
}
