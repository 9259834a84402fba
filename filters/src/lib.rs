//! The filter chain of sconce: what may be asked of a call before it reaches a driver.
