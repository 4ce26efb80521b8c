//! From a model of a GPU to a model of yours: measured servers, replayed.
//!
//! ```text
//! experiment.json, requests.csv --Experiment--> replay (engine model) --> figures predicted --+
//!                                    |             ^ coefficients                              +--> validate: side by side
//!                                    |             |                                          |
//!                                    +--fit: minimise the loss of each request--> Fitted -----+
//!                                                  +--identify: which values can the data live with?
//! ```
//!
//! Units: seconds in records and figures, the profile's own (milliseconds, microseconds) for coefficients. Method, tables and
//! limits are in `docs/accuracy.md`.

mod access_log;
mod calibration;
mod coefficients;
mod experiment;
mod figures;
mod fit;
mod identify;
mod limits;
mod objective;
mod passive;
mod prior;
mod replay;
pub mod silicon;
mod steps;
mod validate;
mod watched;

pub use access_log::{AccessLogError, read_access_log};
pub use calibration::{FitError, Fitted, Reach, Tried, fit_requests, fit_steps};
pub use coefficients::Coefficient;
pub use experiment::{Answer, Description, Experiment, ExperimentError, Row};
pub use figures::{Figures, Spread, figures, measured};
pub use identify::{Estimate, Known};
pub use limits::{Structure, limits};
pub use objective::Part;
pub use passive::{Means, PassiveError, WatchedFit, fit_watched};
pub use replay::{Drive, ReplayError, Replayed, replay};
pub use steps::{Step, StepsError, read_steps};
pub use validate::{
    Compared, Options, Rest, Skipped, Source, Validation, ValidationError, held_out, validate,
};
pub use watched::{Interval, Watched};
