//! Keyed randomness: a draw depends on what it is for, never on when it is asked for.
//!
//! ```text
//! (seed, purpose, ids...) --hash--> 64 bits --> one value, or the seed of a stream of its own
//! ```
//!
//! These are *common random numbers*: two rollouts simulated on the same futures meet the same requests, start-up times
//! and back-offs whatever the order in which they ask, and a new purpose shifts no other. Bits depend on the seed, the
//! purpose's text and the ids alone; integers throughout, so they are the same on every platform. (Values computed from
//! them through `ln` or `exp` are the same for the same build.)

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

/// The randomness of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyed {
    seed: u64,
}

impl Keyed {
    /// The randomness of the run with this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed.
    #[must_use]
    pub const fn seed(self) -> u64 {
        self.seed
    }

    /// 64 uniform bits for this purpose and these ids (replica, request, turn, attempt, ...).
    #[must_use]
    pub const fn bits(self, purpose: &str, ids: &[u64]) -> u64 {
        // Mixing after each word makes the order and the number of ids count.
        let mut state = mix(self.seed ^ 0x736c_6163_6b77_6174);
        state = mix(state ^ name_hash(purpose));
        let mut index = 0;
        while index < ids.len() {
            state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ ids[index]);
            index += 1;
        }
        mix(state ^ ids.len() as u64)
    }

    /// A uniform draw from [0, 1) for this purpose and these ids.
    #[must_use]
    #[expect(clippy::cast_precision_loss)]
    pub const fn uniform(self, purpose: &str, ids: &[u64]) -> f64 {
        (self.bits(purpose, ids) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A stream of its own for this purpose and these ids.
    #[must_use]
    pub fn stream(self, purpose: &str, ids: &[u64]) -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(self.bits(purpose, ids))
    }
}

/// SplitMix64's finaliser: every input bit changes every output bit with probability one half.
pub(crate) const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// FNV-1a over the purpose's text; purposes are a handful of names in the source.
const fn name_hash(name: &str) -> u64 {
    let bytes = name.as_bytes();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        index += 1;
    }
    hash
}
