//! Networks that span nodes: several agents, each with the rights of its own node, one API server, and no kernel but the tunnels'
//! addresses. Plugins are played by this process, with the files that they would write.

mod blocks;
mod claims;
mod join;
mod knitter;
mod labels;
mod many;
mod members;
mod metrics;
mod moves;
mod nonsense;
mod overlay;
mod partition;
mod rights;
mod scale;
mod sets;
mod stage;
mod versions;
mod whereabouts;
