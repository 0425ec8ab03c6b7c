#pragma once
/// Included into every test by tests/CMakeLists.txt, as FT_GOLDEN_DIR.

/// The absolute path of tests/golden in the checkout that the test was built from.
const char* ft_golden_dir();
