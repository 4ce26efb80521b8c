//! The replica against an oracle that walks every step, and against cases worked out by hand.

mod equality;
mod hand_cases;
mod oracle;
mod pair;
mod prefix_cases;
