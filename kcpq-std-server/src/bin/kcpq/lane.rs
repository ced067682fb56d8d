//! Lanes on the command line.

use kcpq_smol::Lane;

/// Reads the name of a lane, or its number.
pub(super) fn parse(text: &str) -> Result<Lane, String> {
    let lane = match text {
        "urgent" => Some(Lane::URGENT),
        "normal" => Some(Lane::NORMAL),
        "bulk" => Some(Lane::BULK),
        number => number.parse().ok().and_then(Lane::new),
    };
    lane.ok_or_else(|| "a lane is urgent, normal, bulk, or a number from 0 to 7".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_have_names_and_numbers() {
        for (text, number) in [("urgent", 1), ("normal", 0), ("bulk", 6), ("0", 0), ("7", 7)] {
            assert_eq!(parse(text).map(Lane::number), Ok(number));
        }
        for text in ["", "8", "-1", "Urgent", "1.5", "999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
