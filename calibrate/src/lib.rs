//! From a model of a GPU to a model of yours.
mod coefficients;
mod experiment;
mod figures;
mod fit;
mod limits;
mod replay;
pub use coefficients::*;
pub use experiment::*;
pub use figures::*;
pub use fit::*;
pub use limits::*;
pub use replay::*;
pub mod silicon;
