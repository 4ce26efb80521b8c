//! The numbers that are fitted, as a vector of logarithms.

use serde::Serialize;
use slackwater_scenarios::EngineProfile;

/// One fitted number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Coefficient {
    /// Floor of a step.
    C0Ms,
    /// Compute of a token.
    CTokUs,
    /// Cost of a decoding sequence.
    CSeqUs,
    /// Cost of a token of context.
    CKvUs,
    /// Cost of an attention pair.
    CAttnUsPerToken2,
    /// Front end, both ways together.
    FrontEndMs,
    /// Front end: the way in over the way out. Latencies of an open loop hardly tell.
    InboundOverOutbound,
}

impl Coefficient {
    /// All of them, in the order of the vector.
    pub const ALL: [Self; 7] = [
        Self::C0Ms,
        Self::CTokUs,
        Self::CSeqUs,
        Self::CKvUs,
        Self::CAttnUsPerToken2,
        Self::FrontEndMs,
        Self::InboundOverOutbound,
    ];

    /// Its place in the vector.
    #[must_use]
    pub const fn axis(self) -> usize {
        self as usize
    }

    /// Its name in an engine profile, unit included; the two of the front end are told otherwise there.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::C0Ms => "c0_ms",
            Self::CTokUs => "c_tok_us",
            Self::CSeqUs => "c_seq_us",
            Self::CKvUs => "c_kv_us",
            Self::CAttnUsPerToken2 => "c_attn_us_per_token2",
            Self::FrontEndMs => "front_end_ms",
            Self::InboundOverOutbound => "inbound_over_outbound",
        }
    }

    /// The range in which it is looked for; below its lower end it is as good as nothing.
    #[must_use]
    pub const fn range(self) -> (f64, f64) {
        match self {
            Self::C0Ms => (0.05, 1000.0),
            Self::CTokUs => (0.1, 100_000.0),
            Self::CSeqUs => (0.05, 20_000.0),
            Self::CKvUs => (1e-5, 10.0),
            Self::CAttnUsPerToken2 => (1e-6, 1.0),
            Self::FrontEndMs => (0.02, 2000.0),
            Self::InboundOverOutbound => (0.02, 50.0),
        }
    }

    /// The value at this logarithm, within the range.
    #[must_use]
    pub fn at(self, log: f64) -> f64 {
        let (low, high) = self.range();
        log.exp().clamp(low, high)
    }
}

/// The logarithms of all coefficients, in the order of [`Coefficient::ALL`].
pub(crate) type Vector = Vec<f64>;

/// The coefficients of a vector, put into a profile.
pub(crate) fn put(vector: &[f64], profile: &mut EngineProfile) {
    let value = |coefficient: Coefficient| coefficient.at(vector[coefficient.axis()]);
    profile.c0_ms = value(Coefficient::C0Ms);
    profile.c_tok_us = value(Coefficient::CTokUs);
    profile.c_seq_us = value(Coefficient::CSeqUs);
    profile.c_kv_us = value(Coefficient::CKvUs);
    profile.c_attn_us_per_token2 = value(Coefficient::CAttnUsPerToken2);
    let (both, odds) = (value(Coefficient::FrontEndMs), value(Coefficient::InboundOverOutbound));
    profile.front_end.inbound_ms = both * odds / (1.0 + odds);
    profile.front_end.outbound_ms = both / (1.0 + odds);
}
