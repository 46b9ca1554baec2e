//! To be written.
use attachments::cni::object::Object;
use attachments::cni::result::CniResult;
use attachments::names::{ContainerId, IfName};

use super::Checked;
use crate::call::{Call, Node};
use crate::error::Result;

pub fn validate(_conf: &Object) -> Checked<()> {
    Ok(())
}
pub fn allocate(_node: &Node<'_>, call: &Call<'_>) -> Result<CniResult> {
    super::point(call)?;
    Ok(CniResult::default())
}
pub fn release(_node: &Node<'_>, _call: &Call<'_>) -> Result<()> {
    Ok(())
}
pub fn check(_node: &Node<'_>, _call: &Call<'_>) -> Result<()> {
    Ok(())
}
pub fn status(_call: &Call<'_>) -> Result<()> {
    Ok(())
}
pub fn gc(_node: &Node<'_>, _call: &Call<'_>, _valid: &[(ContainerId, IfName)]) -> Result<()> {
    Ok(())
}
