//! http
use super::{Context, Handle, StartError};
pub(super) fn start(
    _c: &crate::config::Http,
    context: Context,
    _r: &tokio::runtime::Handle,
) -> Result<Handle, StartError> {
    Err(StartError::Invalid { sink: context.name, what: String::new(), advice: String::new() })
}
