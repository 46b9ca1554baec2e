//! To be written.
use attachments::cni::object::Object;
use attachments::cni::result::CniResult;

use super::Checked;
use crate::call::Call;
use crate::error::Result;

pub fn validate(_conf: &Object) -> Checked<()> {
    Ok(())
}
pub fn allocate(_call: &Call<'_>) -> Result<CniResult> {
    Ok(CniResult::default())
}
pub fn check(_call: &Call<'_>) -> Result<()> {
    Ok(())
}
