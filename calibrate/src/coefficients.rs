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
    /// Front end, on the way in.
    InboundMs,
    /// Front end, on the way out.
    OutboundMs,
}

impl Coefficient {
    /// All of them, in the order of the vector.
    pub const ALL: [Self; 7] = [
        Self::C0Ms,
        Self::CTokUs,
        Self::CSeqUs,
        Self::CKvUs,
        Self::CAttnUsPerToken2,
        Self::InboundMs,
        Self::OutboundMs,
    ];

    /// Its name in an engine profile.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::C0Ms => "c0_ms",
            Self::CTokUs => "c_tok_us",
            Self::CSeqUs => "c_seq_us",
            Self::CKvUs => "c_kv_us",
            Self::CAttnUsPerToken2 => "c_attn_us_per_token2",
            Self::InboundMs => "front_end.inbound_ms",
            Self::OutboundMs => "front_end.outbound_ms",
        }
    }

    /// Its place in a profile.
    pub fn of(self, profile: &mut EngineProfile) -> &mut f64 {
        match self {
            Self::C0Ms => &mut profile.c0_ms,
            Self::CTokUs => &mut profile.c_tok_us,
            Self::CSeqUs => &mut profile.c_seq_us,
            Self::CKvUs => &mut profile.c_kv_us,
            Self::CAttnUsPerToken2 => &mut profile.c_attn_us_per_token2,
            Self::InboundMs => &mut profile.front_end.inbound_ms,
            Self::OutboundMs => &mut profile.front_end.outbound_ms,
        }
    }

    /// The range in which it is looked for: an idle microcontroller to a rack, below which it is as good as nothing.
    #[must_use]
    pub const fn range(self) -> (f64, f64) {
        match self {
            Self::C0Ms => (0.05, 1000.0),
            Self::CTokUs => (0.1, 100_000.0),
            Self::CSeqUs => (0.05, 20_000.0),
            Self::CKvUs => (1e-5, 10.0),
            Self::CAttnUsPerToken2 => (1e-6, 1.0),
            Self::InboundMs | Self::OutboundMs => (0.01, 1000.0),
        }
    }
}

/// The logarithms of all coefficients.
pub type Vector = Vec<f64>;

/// The coefficients of a vector, put into a profile.
pub fn put(vector: &[f64], profile: &mut EngineProfile) {
    for (coefficient, log) in Coefficient::ALL.into_iter().zip(vector) {
        let (low, high) = coefficient.range();
        *coefficient.of(profile) = log.exp().clamp(low, high);
    }
}
