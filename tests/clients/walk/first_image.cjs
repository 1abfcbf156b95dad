// What somebody sees who does as the README says: the list, then by a click on the eye of a study its images.
const { open, walk } = require('./common.cjs')

walk(async (plan, browser) => {
  const begin = Date.now()
  const page = await open(browser, plan)
  await page.goto(plan.url)
  await page.waitForSelector('.space .row .name')
  const list = Date.now() - begin
  // One that shows a picture, as a person would choose: some of the examples have none.
  const row = page.locator('.space .row', { has: page.locator('.thumb img') }).first()
  await row.waitFor()
  await row.locator('.open a').click()
  // Grey values of many kinds: a picture, not a black pane.
  await page.waitForFunction(() => {
    const canvas = document.querySelector('.panes canvas')
    if (!canvas?.width) return false
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)
    return new Set(data.filter((_, at) => at % 4 === 0)).size > 20
  })
  const image = Date.now() - begin
  await page.screenshot({ path: `${plan.artefacts}/first-image.png` })
  return { 'list, ms': list, 'image, ms': image, complaints: page.complaints }
})
