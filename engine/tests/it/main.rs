//! The replica against an oracle that walks every step, and against cases worked out by hand.

mod cache_cases;
mod equality;
mod hand_cases;
mod oracle;
mod oracle_blocks;
mod pair;
mod paper;
mod prefix_cases;
mod step_ends;
