//! Presets held against measured GPUs.
//!
//! ```text
//! silicon CSV --> Measured rows --+--> Case: preset + clients   (or the reason why a preset can't say it)
//!                                 |      |  efficiencies
//!                                 |      v
//!                                 |    closed-loop replay --> mean TTFT, mean TPOT
//!                                 |      ^
//!                                 +--> fit on some models --> error on the others
//! ```
//! The file is that of ai-dynamo/aiconfigurator, `systems/silicon_sample.csv`: means at a fixed number of requests in
//! flight. `docs/presets.md` has the method and the table.

mod case;
mod entries;
mod errors;
mod factors;
mod held_out;
mod public_points;
mod rows;

pub use case::{Case, Means, cases};
pub use entries::entries;
pub use errors::{Compared, Errors};
pub use factors::{FACTORS, Factor, FactorLoss, fit_factors};
pub use held_out::{Group, GroupResult, Refitted, Set, Silicon, SiliconOptions, silicon};
pub use public_points::{PublicPoint, public_points};
pub use rows::{Measured, SiliconError, read_silicon};

#[cfg(test)]
mod tests;
