//! What an adapter says when something did not come about.

use std::fmt;

use slackwater_policy::Reply;

/// Why an adapter's act or look did not come about, and whether trying again may help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In words: what was tried, what was seen, what would mend it where that is known.
    pub reason: String,
    /// Whether asking again may help.
    pub retryable: bool,
}

impl Trouble {
    /// Something that may be over the next time.
    pub fn passing(reason: impl Into<String>) -> Trouble {
        Trouble { reason: reason.into(), retryable: true }
    }

    /// Something that trying again won't change.
    pub fn lasting(reason: impl Into<String>) -> Trouble {
        Trouble { reason: reason.into(), retryable: false }
    }

    /// The same with what was being done in front.
    #[must_use]
    pub fn while_doing(self, what: impl fmt::Display) -> Trouble {
        Trouble { reason: format!("{what}: {}", self.reason), ..self }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl From<Trouble> for Reply {
    fn from(trouble: Trouble) -> Reply {
        Reply::Failed { reason: trouble.reason, retryable: trouble.retryable }
    }
}
