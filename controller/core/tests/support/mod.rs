//! Endpoints and observations of any kind, and what is wanted, said without the planner.

pub(crate) mod any;
pub(crate) mod wanted;
