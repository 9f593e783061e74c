import {
  ActionIcon,
  Button,
  type CSSVariablesResolver,
  createTheme,
  InputWrapper,
  type MantineColorsTuple,
  SegmentedControl,
  Tooltip,
} from '@mantine/core'

const blue: MantineColorsTuple = [
  '#eef4ff',
  '#dce7fd',
  '#b9cefb',
  '#8fb0f8',
  '#6593f5',
  '#447cf1',
  '#2f6bea',
  '#2058cf',
  '#1a4bb3',
  '#123a91',
]
const gray: MantineColorsTuple = [
  '#f8f9fb',
  '#f2f3f6',
  '#e8eaee',
  '#d9dce2',
  '#bfc4cd',
  '#9aa1ad',
  '#6c7380',
  '#4d5460',
  '#343a45',
  '#1d2129',
]
const dark: MantineColorsTuple = [
  '#eeeff2',
  '#c5c8d0',
  '#9da2ae',
  '#6f7582',
  '#43474f',
  '#33363d',
  '#25272d',
  '#1b1d21',
  '#141518',
  '#0e0f11',
]

/** Maps the tokens of tokens.css on to Mantine's scales and control sizes. */
export const theme = createTheme({
  fontFamily: 'var(--font-ui)',
  fontSizes: { xs: '11.5px', sm: '13px', md: '14px', lg: '16px', xl: '20px' },
  lineHeights: { xs: '1.35', sm: '1.45', md: '1.5' },
  spacing: { xs: '6px', sm: '8px', md: '12px', lg: '16px', xl: '24px' },
  radius: { xs: '4px', sm: '6px', md: '8px', lg: '12px', xl: '16px' },
  defaultRadius: 'sm',
  colors: { blue, gray, dark },
  primaryColor: 'blue',
  primaryShade: { light: 7, dark: 6 },
  cursorType: 'pointer',
  respectReducedMotion: true,
  headings: { fontWeight: '600' },
  shadows: {
    sm: 'var(--shadow-card)',
    md: 'var(--shadow-float)',
    xl: '0 16px 48px rgb(16 20 30 / 0.22)',
  },
  components: {
    Button: Button.extend({
      defaultProps: { size: 'xs' },
      vars: () => ({ root: { '--button-height': '30px', '--button-fz': '13px' } }),
    }),
    ActionIcon: ActionIcon.extend({ defaultProps: { variant: 'subtle', color: 'gray', size: 30 } }),
    SegmentedControl: SegmentedControl.extend({
      styles: {
        root: { backgroundColor: 'var(--s-chip)' },
        indicator: { backgroundColor: 'light-dark(white, oklch(0.34 0.012 270))', borderRadius: '5px' },
      },
    }),
    InputWrapper: InputWrapper.extend({ styles: { description: { fontSize: '11.5px' } } }),
    Tooltip: Tooltip.extend({ defaultProps: { openDelay: 350, fz: 'xs', withArrow: false } }),
  },
})

/** Gives Mantine's own roles our colours, in both themes. */
export const variables: CSSVariablesResolver = () => ({
  variables: {
    '--mantine-color-text': 'var(--t-1)',
    '--mantine-color-dimmed': 'var(--t-3)',
    '--mantine-color-placeholder': 'var(--t-3)',
    '--mantine-color-error': 'var(--bad)',
    '--mantine-color-default': 'var(--s-raised)',
    '--mantine-color-default-hover': 'var(--s-hover)',
    '--mantine-color-default-border': 'var(--b-hair)',
    '--mantine-color-body': 'var(--s-panel)',
    '--mantine-color-gray-light': 'var(--s-chip)',
    '--mantine-color-gray-light-color': 'var(--t-2)',
    '--mantine-color-gray-light-hover': 'var(--s-hover)',
  },
  light: {},
  dark: {},
})
