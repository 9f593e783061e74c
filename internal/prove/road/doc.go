// Package road proves the promises about messages, sends and takeovers on whole installations: real processes that are
// killed, frozen and stopped under load. Its tests run with the build tag prove, as `make prove` does.
package road
