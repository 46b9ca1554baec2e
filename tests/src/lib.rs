//! Fixtures and fakes shared by the suites.
