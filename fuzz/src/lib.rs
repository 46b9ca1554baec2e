//! What all targets share: hash tables that are in one order in every run. libFuzzer looks where code goes; with the random keys
//! of the standard library the same inputs would lead it to others each time.

/// Stands before the C library's: the standard library takes the keys of its hash tables from it. What needs secrets has no place here.
///
/// # Safety
/// `buffer` has `length` bytes, as getrandom(2) says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller's promise.
    unsafe { buffer.write_bytes(7, length) };
    isize::try_from(length).unwrap_or(isize::MAX)
}
