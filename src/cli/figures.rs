//! Numbers as people read them.

use bytesize::ByteSize;

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1.5 GiB`.
pub fn bytes(number: u64) -> String {
    ByteSize(number).display().iec().to_string()
}

/// `0.3 s`, `42 s`, `3 min 5 s`, `2 h 10 min`.
pub fn seconds(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// A share as a percentage; what is not nothing is never shown as nothing.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        p if p == 0.0 => "0 %".to_owned(),
        p if p < 0.01 => "less than 0.01 %".to_owned(),
        p if p < 10.0 => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

/// Reads `0.1%` or `0.001`: a share.
pub fn share(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.trim().strip_suffix('%') {
        Some(number) => (number.trim_end(), 100.0),
        None => (text.trim(), 1.0),
    };
    let share = number.parse::<f64>().map(|number| number / scale);
    match share {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("expected a share such as \"0.1%\" or \"0.001\", found {text:?}")),
    }
}

/// One or many.
pub fn many(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [seconds(0.26), seconds(42.4), seconds(185.0), seconds(7800.0)],
            ["0.3 s", "42 s", "3 min 5 s", "2 h 10 min"]
        );
        assert_eq!(
            [percent(0.0), percent(0.000_01), percent(0.0012), percent(0.5)],
            ["0 %", "less than 0.01 %", "0.12 %", "50.0 %"]
        );
        assert_eq!(bytes(1536), "1.5 KiB");
    }

    #[test]
    fn shares_are_read_with_and_without_the_sign() {
        assert_eq!(share("0.1%"), Ok(0.001));
        assert_eq!(share("50 %"), Ok(0.5));
        assert_eq!(share("0.25"), Ok(0.25));
        for text in ["", "%", "-1%", "101%", "2", "much", "NaN"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
