//! What can be made to go wrong with a stand-in.

use std::fmt;
use std::str::FromStr;

use slackwater_scenarios::HumanDuration;

/// One fault; several can be given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// It loads for ever: `/health` stays 503.
    NeverHealthy,
    /// The process ends with code 1 half-way through its start.
    CrashWhileLoading,
    /// It serves another model than it was told to: `root` in `/v1/models` and the answers' label are of
    /// `MODEL-wrong`, the served name is the same.
    WrongModel,
    /// Every step takes so many times as long.
    Slow(f64),
    /// From the first request on that has left, `vllm:num_requests_running` is one too many.
    StuckGauge,
    /// The fake GPU's memory stays taken for so long after the process has ended, however it ended.
    LingeringMemory(HumanDuration),
    /// SIGTERM changes nothing.
    IgnoreSigterm,
    /// The process ends as soon as one response has come to so many tokens.
    DiesMidStream(u32),
}

const KNOWN: &str = "expected never-healthy, crash-while-loading, wrong-model, slow=FACTOR, stuck-gauge, \
                     lingering-memory=DURATION, ignore-sigterm or dies-mid-stream=TOKENS";

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let plain = |fault| match value {
            None => Ok(fault),
            Some(value) => Err(format!("`{name}` takes no value, here `{value}`")),
        };
        let wanted = |what: &str| format!("`{text}`: {name} wants {what}");
        match name {
            "never-healthy" => plain(Self::NeverHealthy),
            "crash-while-loading" => plain(Self::CrashWhileLoading),
            "wrong-model" => plain(Self::WrongModel),
            "stuck-gauge" => plain(Self::StuckGauge),
            "ignore-sigterm" => plain(Self::IgnoreSigterm),
            "slow" => value
                .and_then(|value| value.parse().ok())
                .filter(|factor| (0.001..=1e6).contains(factor))
                .map(Self::Slow)
                .ok_or_else(|| wanted("a factor such as slow=3")),
            "lingering-memory" => value
                .and_then(|value| value.parse().ok())
                .map(Self::LingeringMemory)
                .ok_or_else(|| wanted("a duration such as lingering-memory=20s")),
            "dies-mid-stream" => value
                .and_then(|value| value.parse().ok())
                .filter(|tokens| *tokens > 0)
                .map(Self::DiesMidStream)
                .ok_or_else(|| wanted("a number of tokens such as dies-mid-stream=40")),
            _ => Err(format!("there is no fault `{text}`; {KNOWN}")),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverHealthy => out.write_str("never-healthy"),
            Self::CrashWhileLoading => out.write_str("crash-while-loading"),
            Self::WrongModel => out.write_str("wrong-model"),
            Self::Slow(factor) => write!(out, "slow={factor}"),
            Self::StuckGauge => out.write_str("stuck-gauge"),
            Self::LingeringMemory(time) => write!(out, "lingering-memory={}s", time.as_secs_f64()),
            Self::IgnoreSigterm => out.write_str("ignore-sigterm"),
            Self::DiesMidStream(tokens) => write!(out, "dies-mid-stream={tokens}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_they_are_written() {
        for text in [
            "never-healthy",
            "crash-while-loading",
            "wrong-model",
            "slow=2.5",
            "stuck-gauge",
            "lingering-memory=20s",
            "ignore-sigterm",
            "dies-mid-stream=40",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_wrong_fault_says_what_was_expected() {
        for (text, said) in [
            ("slow", "slow=3"),
            ("slow=-1", "slow=3"),
            ("slow=nan", "slow=3"),
            ("stuck-gauge=1", "no value"),
            ("dies-mid-stream=0", "number of tokens"),
            ("lingering-memory=soon", "duration"),
            ("sleepy", "never-healthy"),
        ] {
            let error = text.parse::<Fault>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
