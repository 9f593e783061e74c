/** The widget's only style sheet. It is adopted by the shadow root, which a strict content security policy allows. */
export const css = `
:host{all:initial;--f:"Inter Variable",Inter,system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;--panel:#fff;--hair:oklch(.925 .004 264);--strong:oklch(.87 .006 264);--hover:oklch(.965 .004 264);
--t1:oklch(.22 .015 270);--t2:oklch(.44 .015 270);--t3:oklch(.51 .012 270);--accent:oklch(.52 .19 260);--on:#fff;--focus:oklch(.52 .19 260);--bad:oklch(.53 .2 25);--warn:oklch(.47 .12 62);--warn-bg:oklch(.965 .04 75);
--h:oklch(.48 .1 178);--h-bg:oklch(.95 .035 172);--h-fg:oklch(.27 .04 180);--a:oklch(.5 .2 296);--a-bg:oklch(.962 .024 300);--a-fg:oklch(.28 .07 295);--a-line:oklch(.89 .06 300);--shadow:0 0 0 1px oklch(.2 .02 270/.06),0 12px 40px oklch(.2 .02 270/.2);color-scheme:light}
@media (prefers-color-scheme:dark){:host{--panel:oklch(.195 .007 270);--hair:oklch(.285 .008 270);--strong:oklch(.36 .01 270);--hover:oklch(.25 .008 270);--t1:oklch(.955 .004 270);--t2:oklch(.76 .008 270);--t3:oklch(.67 .01 270);
--accent:oklch(.68 .15 258);--on:oklch(.19 .02 264);--focus:oklch(.68 .15 258);--bad:oklch(.72 .17 22);--warn:oklch(.82 .13 76);--warn-bg:oklch(.3 .05 70);--h:oklch(.78 .12 175);--h-bg:oklch(.31 .045 178);--h-fg:oklch(.95 .02 175);
--a:oklch(.76 .14 300);--a-bg:oklch(.29 .062 296);--a-fg:oklch(.95 .02 300);--a-line:oklch(.42 .11 296);--shadow:0 0 0 1px oklch(.36 .01 270),0 12px 40px oklch(0 0 0/.5);color-scheme:dark}}
*,*::before,*::after{box-sizing:border-box}
.panel,.launcher,button,textarea{font:400 14px/1.45 var(--f);font-variant-numeric:tabular-nums;color:var(--t1)}
button{cursor:pointer;border:0;background:none;padding:0}
:focus-visible{outline:2px solid var(--focus);outline-offset:2px}
.launcher{position:fixed;right:20px;bottom:20px;z-index:2147483000;width:56px;height:56px;border-radius:50%;display:grid;place-items:center;background:var(--accent);color:var(--on);box-shadow:var(--shadow);transition:transform .15s}
.launcher:hover{transform:scale(1.04)}
.launcher:focus-visible{outline-offset:3px}
.badge{position:absolute;top:-3px;right:-3px;min-width:20px;height:20px;padding:0 5px;border-radius:10px;background:var(--bad);color:#fff;font:600 11.5px/20px var(--f);text-align:center}
@media (prefers-color-scheme:dark){.badge{color:oklch(.19 .02 264)}}
.panel{position:fixed;right:20px;bottom:88px;z-index:2147483001;width:384px;max-width:calc(100vw - 40px);height:620px;max-height:calc(100vh - 108px);display:flex;flex-direction:column;overflow:hidden;border-radius:12px;background:var(--panel);box-shadow:var(--shadow);animation:in .16s ease-out}
@keyframes in{from{opacity:0;transform:translateY(8px)}}
header{display:flex;align-items:center;gap:10px;padding:12px 12px 12px 16px;border-bottom:1px solid var(--hair)}
.who{flex:1;min-width:0;overflow-wrap:anywhere}
.who strong{font-weight:600}.who span{color:var(--t2)}.who span.ai{color:var(--a)}.who span.human{color:var(--h)}
.who small{display:block;font-size:12px;color:var(--t3)}
.avatar{flex:none;width:34px;height:34px;display:grid;place-items:center;border-radius:50%;font-weight:600;background:var(--hover);color:var(--t2)}
.avatar.ai{border-radius:10px;background:var(--a-bg);color:var(--a)}
.avatar.human{background:var(--h-bg);color:var(--h)}
.icon{width:32px;height:32px;border-radius:6px;display:grid;place-items:center;color:var(--t2)}.icon:hover{background:var(--hover)}
.trouble{padding:6px 16px;font-size:12px;background:var(--warn-bg);color:var(--warn)}
.thread{flex:1;overflow-y:auto;overscroll-behavior:contain;padding:16px;display:flex;flex-direction:column;gap:4px}
.thread:focus-visible{outline-offset:-2px}
.greeting{margin:0 0 8px;color:var(--t2);font-size:13.5px;white-space:pre-wrap;overflow-wrap:anywhere;text-align:center;text-wrap:balance}
.day{margin:10px 0 4px;font-size:11.5px;color:var(--t3);text-align:center}
.row{max-width:86%;align-self:flex-start;display:flex;flex-direction:column;align-items:flex-start}
.row.first{margin-top:8px}
.row.visitor{align-self:flex-end;align-items:flex-end}
.row.system{align-self:center;max-width:100%}
.name{display:flex;align-items:center;flex-wrap:wrap;gap:4px;margin:0 2px 3px;font-size:11.5px;color:var(--t3)}
.ai .name svg{color:var(--a)}
.ai .name{color:var(--a)}.human .name{color:var(--h)}.name time{color:var(--t3)}
.bubble{padding:8px 12px;border-radius:13px;font-size:13.5px;white-space:pre-wrap;overflow-wrap:anywhere;background:var(--hover)}
.visitor .bubble{background:var(--accent);color:var(--on);border-bottom-right-radius:4px}
.ai .bubble{background:var(--a-bg);color:var(--a-fg);border-bottom-left-radius:4px}
.human .bubble{background:var(--h-bg);color:var(--h-fg);border-bottom-left-radius:4px}
.system .bubble{background:none;padding:2px 8px;font-size:12px;color:var(--t3);text-align:center}
.bubble a{color:inherit;text-decoration:underline;text-underline-offset:2px}
.waiting .bubble,.sending .bubble{opacity:.7}
.refused .bubble{background:none;color:var(--t1);box-shadow:inset 0 0 0 1px var(--bad)}
.state{margin:2px 2px 0;font-size:11.5px;color:var(--t3);text-align:right}
.refused .state{color:var(--bad)}
.link{font-size:11.5px;min-height:24px;color:var(--t1);text-decoration:underline}
.sources{list-style:none;margin:5px 0 2px;padding:0;display:flex;flex-wrap:wrap;gap:4px}
.sources a,.sources span{display:inline-flex;align-items:center;gap:4px;min-height:24px;padding:2px 8px;border-radius:6px;border:1px solid var(--a-line);font-size:12px;color:var(--a-fg);text-decoration:none;overflow-wrap:anywhere}
.sources svg{flex:none;color:var(--a)}.sources a:hover{background:var(--a-bg)}
.dots{display:flex;gap:4px;padding:13px 14px}
.dots i{width:6px;height:6px;border-radius:50%;background:currentColor;opacity:.35;animation:dot 1.2s infinite}
.dots i:nth-child(2){animation-delay:.15s}.dots i:nth-child(3){animation-delay:.3s}
@keyframes dot{30%{opacity:.9;transform:translateY(-2px)}60%{opacity:.35;transform:none}}
form{position:relative;display:flex;flex-wrap:wrap;align-items:flex-end;gap:8px;padding:10px 12px;border-top:1px solid var(--hair);padding-bottom:max(10px,env(safe-area-inset-bottom))}
textarea{flex:1;min-width:0;resize:none;margin:0;padding:8px 12px;border:1px solid var(--strong);border-radius:10px;background:var(--panel);max-height:132px}
textarea::placeholder{color:var(--t3);opacity:1}
textarea:focus,textarea:focus-visible{outline:0;border-color:var(--focus);box-shadow:0 0 0 1px var(--focus)}
.send{width:38px;height:38px;border-radius:10px;display:grid;place-items:center;background:var(--accent);color:var(--on)}
.send:disabled{background:var(--hover);color:var(--t3);cursor:default}
.count{flex-basis:100%;font-size:11.5px;color:var(--t3)}.count.over{color:var(--bad)}
@media (max-width:480px){.panel{inset:0;width:auto;max-width:none;height:100vh;height:100dvh;max-height:none;border-radius:0}.launcher.on{display:none}.icon{width:44px;height:44px}textarea{font-size:16px}.send{width:44px;height:44px}}
@media (prefers-reduced-motion:reduce){*,.panel,.launcher{animation:none!important;transition:none!important}}
@media (forced-colors:active){.bubble,.launcher,.send{border:1px solid}}
`

const hex = /^#[0-9a-f]{6}$/i

/**
 * accentCss colours the visitor's side and the button, with white or near-black ink, whichever
 * can be read. Anything but "#rrggbb" gives nothing, because the text goes into a style sheet.
 */
export function accentCss(color: string): string {
  if (!hex.test(color)) return ''
  const [r, g, b] = [1, 3, 5].map((i) => {
    const c = Number.parseInt(color.slice(i, i + 2), 16) / 255
    return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
  }) as [number, number, number]
  const light = 0.2126 * r + 0.7152 * g + 0.0722 * b
  const ink = 1.05 / (light + 0.05) >= 4.5 ? '#fff' : '#111'
  return `:host{--accent:${color};--on:${ink}}`
}
