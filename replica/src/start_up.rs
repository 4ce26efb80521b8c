//! How long a stand-in loads, phase by phase.

use std::str::FromStr;
use std::time::Duration;

use slackwater_scenarios::HumanDuration;

/// The phases of a start, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StartUp {
    /// Name and length of each.
    pub phases: Vec<(String, Duration)>,
}

/// How one number is divided: the shares that the phases of a 7B model's cold start had on recorded servers
/// (`slackwater presets show`), rounded.
const SHARES: [(&str, u32); 4] = [("framework", 20), ("weights", 40), ("compile", 30), ("graph capture", 10)];

impl StartUp {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.phases.iter().map(|(_, length)| *length).sum()
    }

    /// One length, divided among the usual phases.
    #[must_use]
    pub fn lasting(total: Duration) -> Self {
        if total.is_zero() {
            return Self::default();
        }
        Self {
            phases: SHARES.iter().map(|(name, share)| ((*name).to_owned(), total * *share / 100)).collect(),
        }
    }
}

/// `30s`, or phases by name: `weights=20s,compile=10s`.
impl FromStr for StartUp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let length = |text: &str| -> Result<Duration, String> {
            text.parse::<HumanDuration>().map(|time| Duration::from_nanos(time.as_nanos()))
        };
        if !text.contains('=') {
            return length(text).map(Self::lasting);
        }
        let phases = text
            .split(',')
            .map(|phase| match phase.split_once('=') {
                Some((name, time)) if !name.trim().is_empty() => {
                    Ok((name.trim().to_owned(), length(time.trim())?))
                }
                _ => Err(format!("`{phase}` is not NAME=DURATION; write `30s` or `weights=20s,compile=10s`")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { phases })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_divided_and_phases_are_kept() {
        let start: StartUp = "30s".parse().unwrap();
        assert_eq!(start.total(), Duration::from_secs(30));
        assert_eq!(start.phases[1], ("weights".to_owned(), Duration::from_secs(12)));
        let start: StartUp = "weights=2s,compile=500ms".parse().unwrap();
        assert_eq!(start.total(), Duration::from_millis(2500));
        assert!("0".parse::<StartUp>().unwrap().phases.is_empty());
        for wrong in ["soon", "weights=", "=3s", "weights=2s,compile"] {
            assert!(wrong.parse::<StartUp>().is_err(), "{wrong}");
        }
    }
}
