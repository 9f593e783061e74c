// Sets the colour scheme before the first paint. Inline scripts are refused by the content security policy.
;(() => {
  let scheme = 'light'
  try {
    scheme = localStorage.getItem('mantine-color-scheme-value') || 'auto'
    if (scheme === 'auto') scheme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'
  } catch {
    // A browser that keeps no storage gets the light theme.
  }
  document.documentElement.setAttribute('data-mantine-color-scheme', scheme)
})()
