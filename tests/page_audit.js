// What a browser finds wrong with the pages in its frames; tests/page_checks.py reads the answer from the title.
function light(c) { const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
  return .2126 * r + .7152 * g + .0722 * b; }
function numbers(s) { const m = s.match(/[\d.]+/g); return m ? m.map(Number) : [0, 0, 0, 0]; }
function over(top, under) { const a = top[3] === undefined ? 1 : top[3]; return [0, 1, 2].map(k => top[k] * a + under[k] * (1 - a)); }
function ground(e, w) { const up = []; for (let x = e; x; x = x.parentElement) { const s = w.getComputedStyle(x);
    if (s.backgroundImage !== 'none') return null; const c = numbers(s.backgroundColor); up.push(c); if (c[3] === undefined) break; }
  return up.reverse().reduce((u, c) => over(c, u), [255, 255, 255]); }
function shown(e, w) { const r = e.getBoundingClientRect(), s = w.getComputedStyle(e);
  return r.width > 0 && r.height > 0 && s.visibility !== 'hidden' && s.opacity !== '0' && e.checkVisibility(); }
function name(e, d) { return (e.getAttribute('aria-label') || e.title || e.textContent || e.alt || e.placeholder
  || (e.id && d.querySelector('label[for="' + e.id + '"]')?.textContent) || e.closest('label')?.textContent || '').trim(); }
function audit(f) { const w = f.contentWindow, d = f.contentDocument, out = new Set();
  const walk = d.createTreeWalker(d.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) { const t = walk.currentNode, e = t.parentElement;
    if (!t.data.trim() || !shown(e, w) || e.closest('script,style,svg,math')) continue;
    const s = w.getComputedStyle(e), back = ground(e, w); if (!back) continue;
    const a = light(over(numbers(s.color), back)), b = light(back), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    const size = parseFloat(s.fontSize), big = size >= 24 || size >= 18.66 && +s.fontWeight >= 700;
    if (ratio < (big ? 3 : 4.5) - .01) out.add('contrast ' + ratio.toFixed(1) + ': ' + e.tagName.toLowerCase() + '.' + e.className + ' ' + t.data.trim().slice(0, 30)); }
  for (const e of d.querySelectorAll('button, a[href], input, select, summary, [role=button]')) {
    if (!shown(e, w)) continue; if (!name(e, d) && !e.querySelector('img[alt]')) out.add('no name: ' + e.outerHTML.slice(0, 80));
    const r = e.getBoundingClientRect(), inline = w.getComputedStyle(e).display === 'inline';
    if (!inline && (r.width < 24 || r.height < 24) && !e.closest('article')) out.add('small target ' + Math.round(r.width) + ' x ' + Math.round(r.height) + ': ' + name(e, d).slice(0, 30)); }
  if (d.documentElement.scrollWidth > f.clientWidth) out.add('wider than ' + f.clientWidth + ': ' + d.documentElement.scrollWidth);
  if (!d.documentElement.lang) out.add('no language'); if (!d.title) out.add('no title');
  return [...out]; }
onload = () => { document.title = JSON.stringify([...document.querySelectorAll('iframe')].map(f => {
  const still = f.contentDocument.createElement('style'); still.textContent = '* { transition: none !important }'; f.contentDocument.head.append(still);
  if (f.dataset.dark) { f.contentDocument.documentElement.dataset.theme = 'dark'; f.contentDocument.body.classList.add('quarto-dark'); }
  return [f.dataset.name, audit(f)]; })); };
